"""The graph, as it is compiled."""

import dataclasses
import json

import pytest
import yaml
from compiled import CLUSTER, STEPS, executors, tasks
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from defectline.pipeline.compiling import compile_pipeline


def test_compiled_yaml_is_a_pipeline_spec(documents):
    spec, platform = documents
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "defectline"
    assert set(executors(spec)) == STEPS
    for config in platform.values():
        json_format.ParseDict(config, kubernetes_pb2.KubernetesExecutorConfig())


def test_nothing_is_installed_at_run_time(compiled):
    assert "pip install" not in compiled.read_text()


def test_caching_and_retries(documents):
    found = dict(tasks(documents[0]))
    for step in ("ingest", "find-champion", "deploy"):
        assert not found[step].get("cachingOptions", {}).get("enableCache"), step
    for step in ("preprocess", "train"):
        assert found[step]["cachingOptions"]["enableCache"], step
        # A run's own name among the arguments would make every call a new one.
        assert "run" not in found[step]["inputs"]["parameters"], step
    for step in STEPS:
        assert found[step]["retryPolicy"]["maxRetryCount"] == 2, step


@pytest.mark.parametrize(
    ("kserve", "deploy_s", "finish_s"),
    [
        ({"timeout_s": "60"}, 3600, 3600),
        ({}, 7 * 600 + 600, 3600),
        ({"timeout_s": "7200"}, 7 * 7200 + 600, 4 * 7200 + 600),
        ({"strategy": "canary", "canary_step_s": "7200"}, 7 * 600 + 2 * 7260 + 600, 3600),
        ({"strategy": "canary", "canary_step_s": "0.5", "canary_steps": "1,5,9"}, 4982, 3600),
        ({"canary_step_s": "7200"}, 7 * 600 + 600, 3600),
    ],
)
def test_a_deployment_and_what_undoes_it_have_the_time_that_their_settings_ask_for(
    tmp_path, kserve, deploy_s, finish_s
):
    pods = {"min_replicas": "2", "max_replicas": "2"}
    target = dataclasses.replace(CLUSTER, kserve={**CLUSTER.kserve, **pods, **kserve})
    compile_pipeline(tmp_path / "pipeline.yaml", None, target)
    _, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert float(steps["exec-deploy"]["activeDeadlineSeconds"]) == deploy_s
    assert float(steps["exec-finish"]["activeDeadlineSeconds"]) == finish_s


@pytest.mark.parametrize("shards", [1, 3])
def test_preprocess_fans_out_over_shards_and_train_takes_them_all(tmp_path, shards):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, shards=shards))
    spec, _ = yaml.safe_load_all(path.read_text())
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    (body,) = (c for c in parsed.components.values() if "train" in c.dag.tasks)
    (loop,) = (t for t in body.dag.tasks.values() if t.parameter_iterator.items.raw)
    assert json.loads(loop.parameter_iterator.items.raw) == list(range(shards))
    inner = parsed.components[loop.component_ref.name].dag.tasks["preprocess"].inputs.parameters
    assert inner["shards"].runtime_value.constant.number_value == shards
    datasets = body.dag.tasks["train"].inputs.artifacts["datasets"].task_output_artifact
    assert body.dag.tasks[datasets.producer_task] == loop
    assert parsed.components["comp-train"].input_definitions.artifacts["datasets"].is_artifact_list


def test_the_yaml_is_small(compiled):
    assert compiled.stat().st_size < 100_000


def test_ingest_in_shards_reads_parts_that_one_step_plans(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, shards=3, at_once=2))
    spec, _ = yaml.safe_load_all(path.read_text())
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    (body,) = (c for c in parsed.components.values() if "plan" in c.dag.tasks)
    (loop,) = (t for t in body.dag.tasks.values() if t.HasField("parameter_iterator"))
    assert loop.parameter_iterator.items.input_parameter
    assert loop.iterator_policy.parallelism_limit == 2
    read = parsed.components[loop.component_ref.name].dag.tasks["read"]
    assert not read.caching_options.enable_cache
    parts = body.dag.tasks["ingest"].inputs.parameters["parts"].task_output_parameter
    assert body.dag.tasks[parts.producer_task] == loop


def test_evaluation_in_shards_judges_parts_that_one_step_cuts(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, shards=3, at_once=2, sign_secret="sign"))
    spec, platform = yaml.safe_load_all(path.read_text())
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    (body,) = (c for c in parsed.components.values() if "calibrate" in c.dag.tasks)
    (loop,) = (
        task
        for task in body.dag.tasks.values()
        if task.HasField("parameter_iterator") and task.parameter_iterator.items.input_parameter
    )
    assert loop.iterator_policy.parallelism_limit == 2
    assert "judge" in parsed.components[loop.component_ref.name].dag.tasks
    judged = body.dag.tasks["evaluate-judged"].inputs.parameters["judged"].task_output_parameter
    assert body.dag.tasks[judged.producer_task] == loop
    # One step has the key to sign with.
    configs = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    signs = {name for name, config in configs.items() if "sign" in str(config.get("secretAsEnv"))}
    assert signs == {"exec-evaluate-judged"}
    # Without shards nothing of this is there.
    compile_pipeline(path, None, CLUSTER)
    assert (
        not {"calibrate", "judge", "evaluate-judged"}
        & executors(next(yaml.safe_load_all(path.read_text()))).keys()
    )
