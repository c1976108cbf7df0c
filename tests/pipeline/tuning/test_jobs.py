"""Pods that tune."""

import os
import subprocess
import sys
from pathlib import Path

import fake_folds
import kubernetes_validate
import pytest
import yaml
from commands import call
from pictures import write_source

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.parameters import parse
from defectline.pipeline.targets import Target
from defectline.pipeline.tuning.jobs import workers, write_object
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.search import make_space

PODS = Pods(
    "registry.example.com/local:1",
    "vision",
    Target("cluster", s3_secret="s3-keys", s3_endpoint="https://s3.example.com"),
)
SEARCH = ("learning_rate=1e-4..1e-2", "decoder=pix2pix,light")


def test_a_job_has_a_pod_a_worker_where_pods_are_restricted():
    parameters = parse("s3://plates/a", "s3://plates/store", ["seed=4"], model_name="plates")
    made = workers(parameters, Options(trials=9, workers=3, search=SEARCH), make_space(SEARCH), PODS)
    kubernetes_validate.validate(made, "1.34", strict=True)
    assert made["metadata"] == {"generateName": "plates-tune-", "namespace": "vision"}
    assert (made["spec"]["parallelism"], made["spec"]["completions"]) == (3, 3)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["restartPolicy"]) == (True, "Never")
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {one["name"] for one in container["env"]} >= {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL_S3"}
    assert "--workers" not in container["command"]


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("kind", ["--job", "--katib"])
def test_pods_have_what_the_settings_of_a_cluster_say(tmp_path: Path, kind: str):
    config, file = tmp_path / "plates.yaml", tmp_path / "object.yaml"
    cluster = {
        "namespace": "serving",
        "gpus": 2,
        "gcs_secret": "gcs-key",
        "s3_region": "eu-central-1",
        "pull_secret": "registry-login",
        "resources": ["train=4,16Gi,32Gi"],
        "node_selector": ["nvidia.com/gpu.product=NVIDIA-A30"],
        "toleration": ["nvidia.com/gpu:NoSchedule"],
        "run_as_user": 0,
    }
    config.write_text(yaml.safe_dump({"source": "gs://a/b", "store": "gs://a/c", "cluster": cluster}))
    done = call("tune", "--config", config, kind, file, "--namespace", "vision")
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load(file.read_text())
    assert written["metadata"]["namespace"] == "vision"
    made = written if kind == "--job" else written["spec"]["trialTemplate"]["trialSpec"]
    if kind == "--job":
        kubernetes_validate.validate(written, "1.34", strict=True)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "local-gpu" in container["image"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "32Gi", "nvidia.com/gpu": "2"},
    }
    said = {one["name"]: one.get("value") for one in container["env"]}
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert said["AWS_REGION"] == "eu-central-1"
    assert Path(said["GOOGLE_APPLICATION_CREDENTIALS"]).parent == Path(mounted["gcs"])
    assert mounted["shm"] == "/dev/shm"
    assert {one["name"] for one in pod["volumes"]} == {"gcs", "shm"}
    assert pod["imagePullSecrets"] == [{"name": "registry-login"}]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A30"}
    assert pod["tolerations"] == [{"operator": "Exists", "key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert "runAsUser" not in pod["securityContext"]


def test_what_a_pod_types_goes_on_with_the_study(tmp_path: Path):
    source = write_source(tmp_path / "source", range(40))
    # The usual value, named by somebody, is not searched.
    given = {"decoder"}
    parameters = parse(str(source), str(tmp_path / "store"), ["epochs=7"])
    options = Options(trials=3, folds=2, given=given)
    made = workers(parameters, options, make_space((), given), PODS)
    command = made["spec"]["template"]["spec"]["containers"][0]["command"]
    folder = Path(fake_folds.__file__).parent / "small_tuning"
    for said in ("0 of 3", "3 trials are there already; 3 wanted in all"):
        done = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:]],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout or said == "0 of 3"
    store = FolderStorage(tmp_path / "store")
    assert len([one for one in store.list("tuning/") if "/trials/" in one.key]) == 3
    (study,) = (tmp_path / "store/tuning").glob("*/study.json")
    assert "learning_rate" in study.read_text()
    assert "decoder" not in command


@pytest.mark.usefixtures("clean")
def test_the_command_writes_a_job_and_an_experiment(tmp_path: Path):
    command = ["tune", "--source", "s3://a/b", "--store", "s3://a/store", "--workers", "2", "--trials", "5"]
    done = call(*command, "--job", tmp_path / "job.yaml", "--katib", tmp_path / "experiment.yaml")
    assert done.returncode == 0, done.stderr
    assert "5 trials" in done.stdout
    assert "2 workers" in done.stdout
    assert yaml.safe_load((tmp_path / "job.yaml").read_text())["kind"] == "Job"
    assert yaml.safe_load((tmp_path / "experiment.yaml").read_text())["kind"] == "Experiment"
    local = call("tune", "--source", tmp_path, "--store", "s3://a/store", "--job", tmp_path / "other.yaml")
    assert (local.returncode, "cannot reach the source" in local.stderr) == (2, True)
    assert not (tmp_path / "other.yaml").exists()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("kind", ["--job", "--katib"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--namespace", "Foo_bar"),
        ("--s3-secret", "Keys"),
        ("--s3-endpoint", "s3.example.com"),
        ("--pull-secret", "Login"),
    ],
)
def test_what_kubernetes_would_not_take_is_not_written(tmp_path: Path, kind: str, option: str, value: str):
    file = tmp_path / "object.yaml"
    done = call("tune", "--source", "s3://a/b", "--store", "s3://a/c", kind, file, option, value)
    assert done.returncode == 2
    assert value in done.stderr
    assert f"Correct {option}" in done.stderr
    assert not file.exists()


@pytest.mark.usefixtures("clean")
def test_there_are_no_more_workers_than_trials(tmp_path: Path):
    command = ["tune", "--source", "s3://a/b", "--store", "s3://a/c", "--workers", "10", "--trials", "3"]
    done = call(*command, "--job", tmp_path / "job.yaml", "--katib", tmp_path / "experiment.yaml")
    assert done.returncode == 0, done.stderr
    assert "3 workers" in done.stdout
    job = yaml.safe_load((tmp_path / "job.yaml").read_text())["spec"]
    assert (job["parallelism"], job["completions"]) == (3, 3)
    spec = yaml.safe_load((tmp_path / "experiment.yaml").read_text())["spec"]
    assert (spec["maxTrialCount"], spec["parallelTrialCount"]) == (3, 3)


def test_a_file_is_written_whole_or_the_option_is_named(tmp_path: Path):
    write_object(tmp_path / "a.yaml", {"kind": "Job"}, "--job")
    assert yaml.safe_load((tmp_path / "a.yaml").read_text()) == {"kind": "Job"}
    with pytest.raises(SettingsError) as raised:
        write_object(tmp_path / "none/a.yaml", {}, "--job")
    assert "--job" in raised.value.fix


@pytest.mark.parametrize("text", ["1e-05", "-1E5", "1e3", ".5", "1.", "12", "0.0005", "on", "null", "~"])
def test_a_text_like_a_number_is_a_text_for_kubectl_too(tmp_path: Path, text: str):
    write_object(tmp_path / "a.yaml", {"min": text}, "--katib")
    # YAML 1.2 and Go's readers know more numbers than PyYAML.
    assert (tmp_path / "a.yaml").read_text() == f"min: '{text}'\n"
