"""The graph of a cross-validation, as it is compiled."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import CLUSTER, executors, tasks
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from defectline.pipeline.compiling import compile_crossval
from defectline.pipeline.crossval.definition import build_crossval
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images

STEPS = {"ingest", "deal", "preprocess", "train-fold", "evaluate", "collect"}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    path: Path = tmp_path_factory.mktemp("compiled") / "crossval.yaml"
    compile_crossval(path, None, CLUSTER, parallel=3)
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_compiled_yaml_is_a_pipeline_spec_of_all_steps(documents):
    spec, platform = documents
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert set(executors(spec)) == STEPS
    for config in platform.values():
        json_format.ParseDict(config, kubernetes_pb2.KubernetesExecutorConfig())


def test_its_parameters_are_those_of_a_run_with_folds_and_seeds():
    names = {
        kind: inspect.signature(made.pipeline_func).parameters
        for kind, made in (("run", build(Images.load())), ("crossval", build_crossval(Images.load())))
    }
    own = {"folds", "seeds"}
    assert names["crossval"].keys() - names["run"].keys() == own
    for name, parameter in names["run"].items():
        found = names["crossval"][name]
        assert (found.annotation, found.default) == (parameter.annotation, parameter.default), name


def test_so_many_folds_run_at_once_and_their_results_are_not_cached(documents):
    spec, _ = documents
    found = dict(tasks(spec))
    (loop,) = (task for name, task in found.items() if name.startswith("for-loop"))
    assert loop["iteratorPolicy"]["parallelismLimit"] == 3
    for step in STEPS:
        cached = bool(found[step].get("cachingOptions", {}).get("enableCache"))
        assert cached == (step in ("preprocess", "train-fold")), step


def test_no_fold_gets_keys_to_sign_or_to_push(documents):
    text = yaml.safe_dump_all(documents)
    assert "s3-keys" in text
    assert "gcs-key" in text
    assert not any(name in text for name in ("sign.key", "vision", "DOCKER_CONFIG"))
    spec, platform = documents
    accelerated = {
        name for name, one in executors(spec).items() if one.get("resources", {}).get("accelerator")
    }
    assert accelerated == {"train-fold"}
    assert platform["exec-train-fold"]["tolerations"]
