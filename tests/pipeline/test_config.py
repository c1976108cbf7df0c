"""One file for a run's settings: what is read, what is refused, and what is printed to start from."""

import inspect
import json
from pathlib import Path

import pytest
import yaml
from commands import call
from compiled import executors
from pictures import write_source

from defectline.cli.cluster.compile import compile_
from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.step import ingest
from defectline.components.train.settings import TRAINING
from defectline.pipeline.config import REPEATABLE, Cluster, as_pairs, as_yaml, describe, read_config
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.resources import SMALL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plates.yaml"


def test_what_is_printed_is_read_back_as_the_defaults(file: Path):
    file.write_text(as_yaml())
    read = read_config(file)
    assert parse("samples", "store", as_pairs(read.parameters)) == parse("samples", "store", [])
    assert Cluster(**{**read.cluster, "kserve": {}}) == Cluster()
    assert (read.source, read.store, read.name) == ("", "./store", "defects")


def test_every_setting_is_described():
    found = describe()
    assert {one.key.partition(".")[2] for one in found if one.key.startswith("parameters.")} == {
        *(name for name in Parameters.model_fields if name not in ("source", "store", "model_name")),
        *(f"training.{name}" for name in TRAINING),
    }
    for one in found:
        assert one.description.endswith("."), one.key
    by_key = {one.key: one for one in found}
    assert by_key["parameters.image_size"].bounds == {"ge": 32, "le": 2048, "multiple_of": 32}
    assert by_key["parameters.channels"].choices == [1, 3]
    assert by_key["parameters.epochs"].step == "train"
    assert by_key["cluster.kserve.canary_steps"].default == [10, 50]


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("sourc: a", "There is no key sourc in", "source?"),
        ("parameters: {epoch: 3}", "There is no key parameters.epoch in", "epochs?"),
        ("parameters: {model_name: a}", "There is no key parameters.model_name in", "Use one of these"),
        ("cluster: {gpu: 1}", "There is no key cluster.gpu in", "gpus?"),
        ("cluster: {kserve: {min_replica: 1}}", "no key cluster.kserve.min_replica in", "min_replicas?"),
        ("parameters: {epochs: 0}", "plates.yaml: The setting epochs is wrong", "Give epochs"),
        ("parameters: {enhance: perhaps}", "plates.yaml: The setting enhance is wrong", "Give enhance"),
        ("cluster: {gpus: -1}", "plates.yaml: The setting gpus is wrong", "Give gpus"),
        ("cluster: {resources: [train=1]}", "plates.yaml: --resources train=1 cannot be used", "train=1,4Gi"),
        ("cluster: {resources: {a: b}}", "plates.yaml: The setting resources is wrong", "Give resources"),
        ("cluster: {node_selector: [gpu]}", "plates.yaml: --node-selector gpu is not a label", "nvidia.com"),
        ("cluster: {node_selector: {a: b}}", "yaml: The setting node_selector is wrong", "node_selector"),
        ("cluster: {toleration: 'gpu:No'}", "plates.yaml: --toleration gpu:No is not a taint", "NoSchedule"),
        ("cluster: {kserve: {gpu: -1}}", "plates.yaml: The setting gpu is wrong", "Give gpu"),
        ("name: Plates", "plates.yaml: The setting name is wrong", "Give name"),
        ("parameters: {training: {patiense: 1}}", "no key parameters.training.patiense in", "patience?"),
        ("parameters: {training: {patience: 0}}", "plates.yaml: The setting patience is wrong", "patience"),
        ("parameters: {training: patience=0}", "plates.yaml: The setting patience is wrong", "patience"),
        ("parameters: {training: [patience]}", "plates.yaml: training is not a mapping", "defectline config"),
        ("parameters: {epochs: 0, min_iou: 2}", "The settings epochs, min_iou are wrong", "Give each"),
        ("parameters: 3", "plates.yaml: parameters is not a mapping", "defectline config"),
        ("source: [", "plates.yaml is not valid YAML", "Correct the file"),
        ("- source", "There is no key", "Use one of these"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(file: Path, text: str, what: str, fix: str):
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_config(file)
    assert what in caught.value.what
    assert "plates.yaml" in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "written",
    ["{learning_rate: 0.01, patience: 5}", "learning_rate=0.01 patience=5", "patience=5,learning_rate=1e-2"],
)
def test_the_settings_of_training_may_be_a_mapping_or_a_text(file: Path, written: str):
    file.write_text(f"parameters:\n  training: {written}\n")
    parameters = parse("samples", "store", as_pairs(read_config(file).parameters))
    assert parameters == parse("samples", "store", ["learning_rate=0.01", "patience=5"])
    assert parameters.training == "learning_rate=0.01 patience=5"


def test_a_file_that_is_missing_is_named(file: Path):
    with pytest.raises(SettingsError, match=r"plates\.yaml cannot be read"):
        read_config(file)


def test_the_options_of_compile_are_those_of_the_file():
    options = inspect.signature(compile_).parameters
    for name, field in Cluster.model_fields.items():
        if name != "kserve":
            # An option that may be given several times has None where it is not given.
            default = () if name in REPEATABLE else options[name].default
            assert default == field.default, f"cli/cluster/compile.py: default of {name}"
            (option,) = options[name].annotation.__metadata__
            assert option.help == field.description, f"cli/cluster/compile.py: help of {name}"
    # The others name files, and what is compiled.
    files = {"config", "gitops", "images", "kserve_", "output", "parallel", "pipeline_namespace", "what"}
    assert options.keys() - Cluster.model_fields.keys() - {"context"} == files


# The commands


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Parameters]:
    """The parameters that a run gets, which ends there."""
    found = []

    def stop(parameters: Parameters, say: object) -> None:
        found.append(parameters)
        raise SystemExit(0)

    monkeypatch.setattr("defectline.pipeline.local.run_locally", stop)
    return found


def test_an_option_and_set_win_over_the_file(file: Path, asked: list[Parameters]):
    file.write_text(
        "source: here\nstore: there\nname: plates\n"
        "parameters: {epochs: 7, enhance: true, training: patience=3, force: false}\n"
    )
    assert call("run", "--config", file).returncode == 0
    wanted = parse("here", "there", ["epochs=7", "enhance=true", "training=patience=3"], model_name="plates")
    assert asked == [wanted]
    options = ("--set", "epochs=9", "--store", "elsewhere", "--force")
    assert call("run", "--config", file, *options).returncode == 0
    assert asked[1] == wanted.model_copy(update={"epochs": 9, "store": "elsewhere", "force": True})


def test_what_the_file_leaves_out_has_its_default(file: Path, asked: list[Parameters]):
    file.write_text("parameters:\n")
    assert "No source is given" in call("run", "--config", file).stderr
    assert call("run", "--config", file, "--source", "here").returncode == 0
    assert asked == [parse("here", "./store", [])]


def test_a_wrong_file_ends_the_command(file: Path):
    file.write_text("parameters: {epoch: 3}")
    done = call("run", "--config", file)
    assert done.returncode == 2
    assert "Did you mean epochs?" in done.stderr


def test_crossval_takes_source_and_parameters_and_keeps_its_own_store(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []

    def stop(parameters: Parameters, *others: object) -> None:
        found.append(parameters)
        raise SystemExit(0)

    monkeypatch.setattr("defectline.pipeline.crossval.validate.cross_validate", stop)
    file.write_text("source: here\nstore: there\nparameters: {epochs: 7}\n")
    assert call("crossval", "--config", file).returncode == 0
    assert found == [parse("here", "./crossval", ["epochs=7"])]


def test_compile_takes_the_cluster(file: Path, tmp_path: Path):
    file.write_text(
        "cluster: {namespace: vision, gpus: 0, shards: 3, adopt: true, kserve: {canary_steps: [5, 50]}}"
    )
    done = call("compile", "--config", file, "-o", tmp_path / "pipeline.yaml", "--shards", "2")
    assert done.returncode == 0, done.stderr
    assert "compiled for vision, no GPU" in done.stdout
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "[0, 1]" in text
    assert "canary_steps: 5,50" in text


def test_resources_of_the_file_come_before_those_of_the_options(file: Path, tmp_path: Path):
    def requests(*options: str) -> dict[str, str]:
        package = tmp_path / "pipeline.yaml"
        done = call("compile", "--config", file, "-o", package, *options)
        assert done.returncode == 0, done.stderr
        found = executors(next(yaml.safe_load_all(package.read_text())))
        return {step: found[step]["resources"]["resourceCpuRequest"] for step in ("train", "evaluate")}

    file.write_text("cluster: {resources: small}")
    small = requests()
    assert small == {"train": SMALL["train"].cpu, "evaluate": SMALL["evaluate"].cpu}
    file.write_text("cluster: {resources: [small, 'train=300m,1Gi']}")
    assert requests() == small | {"train": "300m"}
    assert requests("--resources", "evaluate=600m,1Gi") == {"train": "300m", "evaluate": "600m"}
    assert requests("--resources", "default", "--resources", "train=3,8Gi")["train"] == "3"


def test_nodes_of_the_file_come_before_those_of_the_options(file: Path, tmp_path: Path):
    file.write_text("cluster: {node_selector: [pool=gpu, zone=a], toleration: 'nvidia.com/gpu:NoSchedule'}")
    options = ("--node-selector", "zone=b", "--toleration", "pool=gpu")
    package = tmp_path / "pipeline.yaml"
    done = call("compile", "--config", file, "-o", package, *options)
    assert done.returncode == 0, done.stderr
    steps = list(yaml.safe_load_all(package.read_text()))[1]["platforms"]["kubernetes"]["deploymentSpec"]
    train = steps["executors"].pop("exec-train")
    assert train["nodeSelector"]["labels"] == {"pool": "gpu", "zone": "b"}
    assert train["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "pool", "operator": "Equal", "value": "gpu"},
    ]
    assert not any({"nodeSelector", "tolerations"} & step.keys() for step in steps["executors"].values())
    assert "they do nothing" not in done.stdout
    done = call("compile", "--config", file, "-o", package, "--gpus", "0")
    assert "without one they do nothing" in done.stdout


def test_config_prints_yaml_and_json():
    assert call("config").stdout == as_yaml()
    printed = json.loads(call("config", "--json").stdout)
    assert {"key", "step", "type", "default", "choices", "bounds", "description"} == set(printed[0])


# What a run leaves


def test_a_run_leaves_a_file_that_is_read_back(tmp_path: Path):
    source, store = write_source(tmp_path / "source", range(8)), tmp_path / "store"
    key = (
        "epochs=7.0 channels=3.0 tile=True min_iou=0.4 init_from=none training=learning_rate=0.001 patience=3"
    )
    ingest(str(source), str(store), "one", "plates", {"masks": "ng_only"}, key)
    left = FolderStorage(store).root / "runs/one/config.yaml"
    read = read_config(left)
    assert (read.source, read.store, read.name) == (str(source), str(store), "plates")
    pairs = ["masks=ng_only", "epochs=7", "channels=3", "tile=true", "min_iou=0.4"]
    wanted = parse("a", "b", [*pairs, "training=learning_rate=0.001 patience=3"])
    assert parse("a", "b", as_pairs(read.parameters)) == wanted
    assert yaml.safe_load(left.read_text())["parameters"]["tile"] is True
