"""Manifests are what KServe's schemas allow and what the settings ask for."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cluster.api import merge
from cluster.schemas import crd_validators, sdk_validators
from cluster.world import KNATIVE, NAME, SETTINGS, TWO

from defectline.components.deploy.kserve.manifests import (
    GROUP,
    canary_of,
    candidate_service,
    candidate_settings,
    inference_service,
    merge_patch,
    serving_runtime,
)
from defectline.components.deploy.kserve.settings import KServeSettings

AUTOSCALED = SETTINGS.model_copy(update={"cpu_target": 60, "max_replicas": 3, "gpu": 1})


ON_S3 = SETTINGS.model_copy(update={"review": "s3://plates/store", "review_secret": "review"})


ON_GCS = ON_S3.model_copy(update={"review": "gs://plates/store"})


SERVERLESS = KNATIVE.model_copy(update={"min_replicas": 0, "concurrency": 4})


@pytest.mark.parametrize("validators", [crd_validators, sdk_validators])
@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE, TWO, AUTOSCALED, SERVERLESS, ON_S3, ON_GCS])
def test_manifests_are_valid_by_the_custom_resource_definitions(
    settings: KServeSettings, validators: Callable[[], dict]
) -> None:
    place = NAME, "v20261122-101530-3fa9c1", "s3://bucket/serving/defects/v1/", settings
    service = inference_service(*place)
    manifests = [service, candidate_service(*place), serving_runtime(settings)]
    manifests.append({**service, "spec": {**service["spec"], "canary": canary_of(service, 0)}})
    for manifest in manifests:
        validator = validators()[manifest["apiVersion"], manifest["kind"]]
        # Through JSON, as it is sent.
        assert [e.message for e in validator.iter_errors(json.loads(json.dumps(manifest)))] == []
    service["spec"]["predictor"]["minReplica"] = 1
    assert not validators()[service["apiVersion"], service["kind"]].is_valid(service)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (SETTINGS, {"minReplicas": 1, "maxReplicas": 1}),
        (AUTOSCALED, {"scaleMetric": "cpu", "scaleTarget": 60, "maxReplicas": 3}),
        (SERVERLESS, {"scaleMetric": "concurrency", "scaleTarget": 4, "minReplicas": 0}),
    ],
)
def test_autoscaling(settings: KServeSettings, wanted: dict[str, Any]) -> None:
    service = inference_service(NAME, "v1", "s3://b/", settings)
    assert wanted.items() <= service["spec"]["predictor"].items()
    classes = {"Standard": "hpa" if settings.cpu_target else "none"}
    got = service["metadata"]["annotations"].get(f"{GROUP}/autoscalerClass")
    assert got == classes.get(settings.deployment_mode)


def test_with_a_gpu_the_network_runs_in_onnx_runtime() -> None:
    (container,) = serving_runtime(AUTOSCALED)["spec"]["containers"]
    assert "--engine=onnxruntime" in container["args"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (container,) = serving_runtime(SETTINGS)["spec"]["containers"]
    assert not any(argument.startswith("--engine") for argument in container["args"])


def test_a_runtime_changes_its_name_with_its_spec() -> None:
    name = serving_runtime(SETTINGS)["metadata"]["name"]
    assert serving_runtime(SETTINGS)["metadata"]["name"] == name
    others = [{"image": "registry.example/serve:2"}, {"memory": "2Gi"}, {"gpu": 1}]
    names = {serving_runtime(SETTINGS.model_copy(update=other))["metadata"]["name"] for other in others}
    assert len(names | {name}) == 4


@pytest.mark.parametrize("current", [{}, {"a": 1}, {"a": {"b": 1, "c": [1]}, "d": 0}, {"a": {"b": {"c": 1}}}])
@pytest.mark.parametrize("wanted", [{}, {"a": 2}, {"a": {"b": 1}, "e": {"f": 1}}, {"a": {"b": 2, "c": [2]}}])
def test_a_merge_patch_leads_from_one_spec_to_the_other(current: dict, wanted: dict) -> None:
    assert merge(current, merge_patch(current, wanted)) == wanted


def container(settings: KServeSettings) -> dict[str, Any]:
    [found] = serving_runtime(settings)["spec"]["containers"]
    return found


def test_the_pods_get_the_place_and_the_keys() -> None:
    by_account = ON_S3.model_copy(update={"review_secret": ""})
    assert "--review=s3://plates/store" in container(by_account)["args"]
    assert "env" not in container(by_account)
    references = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container(ON_S3)["env"]}
    assert {one["name"] for one in references.values()} == {"review"}
    # A pod starts without the keys that are not needed everywhere.
    assert {key for key, one in references.items() if one["optional"]} == {
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
    }
    [file] = container(ON_GCS)["env"]
    mount = next(one for one in container(ON_GCS)["volumeMounts"] if one["name"] == "review")
    assert file == {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{mount['mountPath']}/key.json"}
    volumes = serving_runtime(ON_GCS)["spec"]["volumes"]
    assert {"name": "review", "secret": {"secretName": "review"}} in volumes


def test_the_pods_are_told_of_the_collector() -> None:
    traced = container(ON_S3.model_copy(update={"traces": "http://collector:4318"}))
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"} in traced["env"]
    assert len(traced["env"]) == len(container(ON_S3)["env"]) + 1


def test_a_candidate_keeps_none_and_without_review_nothing_is_given() -> None:
    assert serving_runtime(candidate_settings(ON_S3)) == serving_runtime(SETTINGS)
    assert not any(argument.startswith("--review") for argument in container(SETTINGS)["args"])
    assert "env" not in container(SETTINGS)


def test_pods_that_trust_keys_load_one_version_alone() -> None:
    trusting = SETTINGS.model_copy(update={"trust": "plates-trust"})
    (argument,) = [one for one in container(trusting)["args"] if one.startswith("--trust=")]
    mounts = {one["name"]: one["mountPath"] for one in container(trusting)["volumeMounts"]}
    assert argument == f"--trust={mounts['trust']}"
    volume = {"name": "trust", "configMap": {"name": "plates-trust"}}
    assert volume in serving_runtime(trusting)["spec"]["volumes"]
    service = inference_service(NAME, "v1", "s3://b/", trusting)
    assert service["spec"]["predictor"]["model"]["args"] == ["--version=v1"]
    # What serves without keys is as it was.
    assert "args" not in inference_service(NAME, "v1", "s3://b/", SETTINGS)["spec"]["predictor"]["model"]
    assert not any(one.startswith("--trust") for one in container(SETTINGS)["args"])
