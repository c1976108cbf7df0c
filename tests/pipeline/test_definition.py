"""The definition, its parameters, and what a cluster gets of it."""

import dataclasses
import hashlib
import inspect
import json
import os
from pathlib import Path

import pytest
import yaml
from commands import defectline
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import compile_manifests, compile_pipeline, parse_kserve
from defectline.pipeline.definition import build
from defectline.pipeline.images import GPU_TARGETS, TARGETS, Images, reference
from defectline.pipeline.local import StepReport, _read_reports
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.targets import Target

STEPS = {"ingest", "find-champion", "preprocess", "train", "evaluate", "deploy", "finish"}
CLUSTER = Target(
    name="cluster",
    kserve={"namespace": "vision", "service_account": "puller"},
    gpus=1,
    s3_secret="s3-keys",
    s3_endpoint="https://s3.example.com",
    s3_region="eu-central-1",
    gcs_secret="gcs-key",
    pull_secret="registry",
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    node_selector={"gpu": "true"},
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(path, None, CLUSTER)
    return path


@pytest.fixture(scope="module")
def documents(compiled) -> tuple[dict, dict]:
    spec, platform = yaml.safe_load_all(compiled.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def executors(spec: dict) -> dict[str, dict]:
    return {
        name.removeprefix("exec-"): executor["container"]
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }


def test_parameters_are_those_of_the_pipeline():
    signature = inspect.signature(build(Images.load()).pipeline_func)
    declared = {
        name: (parameter.annotation, parameter.default) for name, parameter in signature.parameters.items()
    }
    checked = {
        name: (field.annotation, inspect.Parameter.empty if field.is_required() else field.default)
        for name, field in Parameters.model_fields.items()
    }
    assert declared == checked


def test_compiled_yaml_is_a_pipeline_spec(documents):
    spec, platform = documents
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "defectline"
    assert set(executors(spec)) == STEPS
    for config in platform.values():
        json_format.ParseDict(config, kubernetes_pb2.KubernetesExecutorConfig())


def test_nothing_is_installed_at_run_time(compiled):
    assert "pip install" not in compiled.read_text()


def test_images_are_pinned(documents):
    for container in executors(documents[0]).values():
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"].rpartition("/")[2]


def test_secrets_are_named_never_held(documents, compiled):
    _, platform = documents
    text = compiled.read_text()
    for word in ("AKIA", "BEGIN PRIVATE KEY", "password"):
        assert word not in text
    for step in STEPS:
        config = platform[f"exec-{step}"]
        assert [s["secretName"] for s in config["secretAsEnv"]] == ["s3-keys"]
        assert [s["secretName"] for s in config["secretAsVolume"]] == ["gcs-key"]


def test_only_training_takes_a_gpu(documents):
    spec, platform = documents
    for step, container in executors(spec).items():
        accelerator = container.get("resources", {}).get("accelerator")
        assert bool(accelerator) == (step == "train"), step
        assert bool(platform[f"exec-{step}"].get("tolerations")) == (step == "train")
    assert executors(spec)["train"]["image"].count("train-gpu") == 1


def test_every_step_has_limits_and_a_timeout(documents):
    spec, platform = documents
    for step, container in executors(spec).items():
        assert container["resources"]["resourceMemoryLimit"], step
        assert platform[f"exec-{step}"]["activeDeadlineSeconds"], step
        assert platform[f"exec-{step}"]["securityContext"]["runAsNonRoot"], step


def test_caching_and_retries(documents):
    tasks = {}

    def collect(node: object) -> None:
        if isinstance(node, dict):
            for name, task in node.get("tasks", {}).items():
                tasks[name] = task
            for child in node.values():
                collect(child)

    collect(documents[0])
    for step in ("ingest", "find-champion", "deploy"):
        assert not tasks[step].get("cachingOptions", {}).get("enableCache"), step
    for step in ("preprocess", "train"):
        assert tasks[step]["cachingOptions"]["enableCache"], step
        # A run's own name among the arguments would make every call a new one.
        assert "run" not in tasks[step]["inputs"]["parameters"], step
        assert tasks[step]["retryPolicy"]["maxRetryCount"] == 2
    assert "retryPolicy" not in tasks["deploy"]


@pytest.mark.parametrize("shards", [1, 3])
def test_preprocess_fans_out_over_shards_and_train_takes_them_all(tmp_path, shards):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, shards=shards))
    spec, _ = yaml.safe_load_all(path.read_text())
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    (body,) = (c for c in parsed.components.values() if "train" in c.dag.tasks)
    (loop,) = (t for t in body.dag.tasks.values() if t.HasField("parameter_iterator"))
    assert json.loads(loop.parameter_iterator.items.raw) == list(range(shards))
    inner = parsed.components[loop.component_ref.name].dag.tasks["preprocess"].inputs.parameters
    assert inner["shards"].runtime_value.constant.number_value == shards
    datasets = body.dag.tasks["train"].inputs.artifacts["datasets"].task_output_artifact
    assert body.dag.tasks[datasets.producer_task] == loop
    assert parsed.components["comp-train"].input_definitions.artifacts["datasets"].is_artifact_list


def test_other_settings_are_named_to_ingest_with_new_ones_last(compiled):
    """Runs with the same text have nothing new: what it held before must stay in front."""
    # YAML may break the line anywhere.
    text = " ".join(compiled.read_text().split())
    before = text.index("image_size={{")
    assert before < text.index("max_overkill={{", before) < text.index("tile={{", before)
    assert text.index("tile={{", before) < text.index("empty_tiles={{", before)
    assert text.index("empty_tiles={{", before) < text.index("escape_cost={{", before)
    assert text.index("escape_cost={{", before) < text.index("quantize={{", before)
    assert text.index("quantize={{", before) < text.index("init_from={{", before)
    assert text.index("init_from={{", before) < text.index("training={{", before)


def test_the_shards_of_a_step_are_one_line_of_the_table(tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (0, 0))
    ended = [("ingest", "ingest", 2), ("preprocess-1", "preprocess", 3), ("preprocess-0", "preprocess", 7)]
    for file, name, second in [*ended, ("train", "train", 9)]:
        (reports / f"{file}.json").write_text(json.dumps({"step": name, "seconds": 1, "summary": file}))
        os.utime(reports / f"{file}.json", (second, second))
    assert _read_reports(tmp_path, reports) == [
        StepReport("ingest", 2, "ingest"),
        StepReport("preprocess", 5, "preprocess-1; preprocess-0"),
        StepReport("train", 2, "train"),
    ]


def test_the_yaml_is_small(compiled):
    assert compiled.stat().st_size < 100_000


def test_compile_command(tmp_path):
    lock = tmp_path / "images.lock.json"
    digest = "sha256:" + "ab" * 32
    locked = {t: f"registry.example.com/defectline-{t}@{digest}" for t in TARGETS if t not in GPU_TARGETS}
    lock.write_text(json.dumps(locked))
    output = tmp_path / "out/pipeline.yaml"
    done = defectline("compile", "-o", output, "--images", lock, "--gpus", "0", "--shards", "4")
    assert done.returncode == 0, done.stderr
    assert f"registry.example.com/defectline-ingest@{digest}" in output.read_text()
    assert "[0, 1, 2, 3]" in output.read_text()
    assert "train-gpu" not in output.read_text()
    assert "ghcr.io" not in output.read_text()
    assert [p.name for p in output.parent.iterdir()] == ["pipeline.yaml"]
    done = defectline("compile", "-o", output, "--images", lock, "--gpus", "1")
    assert done.returncode == 2
    assert "names no image for train-gpu" in done.stderr


@pytest.mark.parametrize("gpu", [{}, {"gpu": "0"}, {"gpu": "1"}])
def test_pods_with_gpus_get_the_image_for_gpus(tmp_path, gpu):
    package, objects = tmp_path / "pipeline.yaml", tmp_path / "objects.yaml"
    target = dataclasses.replace(CLUSTER, kserve={**CLUSTER.kserve, **gpu})
    expected = reference("serve-gpu" if gpu == {"gpu": "1"} else "serve")
    assert compile_pipeline(package, None, target).serve == expected
    assert [one["image"] for one in kserve_of(package)] == [expected] * 2
    compile_manifests(objects, package, None, target, "kfp")
    _, version = yaml.safe_load_all(objects.read_text())
    assert version["spec"]["pipelineSpec"] == next(yaml.safe_load_all(package.read_text()))


def test_a_lock_file_without_the_image_for_gpus(tmp_path):
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({t: f"registry.example.com/{t}:1.2.0" for t in TARGETS if t != "serve-gpu"}))
    target = dataclasses.replace(CLUSTER, kserve={**CLUSTER.kserve, **parse_kserve(["gpu=1"])})
    with pytest.raises(SettingsError, match="names no image for serve-gpu") as caught:
        compile_pipeline(tmp_path / "pipeline.yaml", lock, target)
    assert "--kserve gpu=0" in caught.value.fix


def kserve_of(compiled: Path) -> list[dict]:
    """The settings of KServe that find-champion and deploy are given."""
    spec, _ = yaml.safe_load_all(compiled.read_text())
    found = []

    def collect(node: object) -> None:
        if isinstance(node, dict):
            for name, task in node.get("tasks", {}).items():
                if name in ("find-champion", "deploy"):
                    found.append(task["inputs"]["parameters"]["kserve"]["runtimeValue"]["constant"])
            for child in node.values():
                collect(child)

    collect(spec)
    assert len(found) == 2
    return found


def test_compile_as_kubernetes_objects(tmp_path):
    package, objects = tmp_path / "pipeline.yaml", tmp_path / "gitops/pipeline.yaml"
    done = defectline(
        "compile", "-o", package, "--gpus", "0", "--gitops", objects, "--pipeline-namespace", "kfp"
    )
    assert done.returncode == 0, done.stderr
    version = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    assert f"its version {version}, for namespace kfp" in done.stdout
    pipeline, one = yaml.safe_load_all(objects.read_text())
    assert {pipeline["apiVersion"], one["apiVersion"]} == {"pipelines.kubeflow.org/v2beta1"}
    assert (pipeline["kind"], one["kind"]) == ("Pipeline", "PipelineVersion")
    assert pipeline["metadata"] == {"name": "defectline", "namespace": "kfp"}
    assert one["metadata"] == {"name": f"defectline-{version}", "namespace": "kfp"}
    assert (one["spec"]["pipelineName"], one["spec"]["displayName"]) == ("defectline", version)
    spec, platform = yaml.safe_load_all(package.read_text())
    assert (one["spec"]["pipelineSpec"], one["spec"]["platformSpec"]) == (spec, platform)


@pytest.mark.parametrize(("user", "expected"), [(1000, {1000}), (0, {None})])
def test_the_user_of_the_steps(tmp_path, user, expected):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, run_as_user=user))
    _, platform = yaml.safe_load_all(path.read_text())
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    contexts = [step["securityContext"] for step in steps]
    assert all(context["runAsNonRoot"] for context in contexts)
    assert {int(one) if (one := context.get("runAsUser")) else None for context in contexts} == expected


def test_compile_to_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file/pipeline.yaml", tmp_path):
        done = defectline("compile", "-o", output)
        assert done.returncode == 2, done.stderr
        assert "cannot be written" in done.stderr


def test_compile_refuses_what_kserve_would(tmp_path):
    done = defectline("compile", "-o", tmp_path / "pipeline.yaml", "--mode", "Serverless")
    assert done.returncode == 2
    assert "deployment_mode" in done.stderr
    assert not (tmp_path / "pipeline.yaml").exists()


def test_parse_reads_types():
    parameters = parse("samples", "store", ["epochs=3", "min_iou=0.4", "enhance=true"], model_name="lgp")
    assert parse("samples", "store", ["grade_b_px=9", "grade_a_px=9"]).grade_b_px == 9
    assert (parameters.epochs, parameters.min_iou, parameters.enhance) == (3, 0.4, True)
    assert parameters.model_name == "lgp"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["epochs"], "sets nothing"),
        (["epoch=1"], "no parameter epoch"),
        (["epochs=many"], "epochs"),
        (["max_escape=2"], "max_escape"),
        (["channels=2"], "channels"),
        (["masks=none"], "all or ng_only"),
        (["empty_tiles=2"], "empty_tiles"),
        (["escape_cost=0"], "escape_cost"),
        (["grade_a_px=50"], "grade_b_px"),
        (["grade_a_px=50", "grade_b_px=49"], "grade_b_px"),
        (["source=elsewhere"], "no parameter source"),
        (["model_name=Plates"], "lowercase letters"),
        (["model_name=" + 41 * "a"], "at most 40"),
        (["training=epoch=1"], "no setting epoch of training"),
    ],
)
def test_parse_refuses(pairs, says):
    with pytest.raises(SettingsError, match=says):
        parse("samples", "store", pairs)


def test_a_model_has_one_name():
    assert parse("samples", "store", ["model_name=a"], model_name="defects").model_name == "a"
    assert parse("samples", "store", ["model_name=a"], model_name="a").model_name == "a"
    with pytest.raises(SettingsError, match="two names"):
        parse("samples", "store", ["model_name=a"], model_name="b")
