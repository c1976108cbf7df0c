"""Settings of KServe that cannot be kept are refused when they are made."""

from typing import Any

import pytest
from cluster.world import NAMESPACE
from pydantic import ValidationError

from defectline.components.deploy.kserve.settings import KServeSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "registry.example:5000/serve"}, "may change under a running service"),
        ({"image": "registry.example/serve:latest"}, "may change under a running service"),
        ({"min_replicas": 2}, "exceeds max_replicas"),
        ({"max_replicas": 3}, "fixed number of pods"),
        ({"min_replicas": 0}, "only Knative mode scales to zero"),
        ({"concurrency": 4}, "in Standard mode set cpu_target"),
        ({"deployment_mode": "Knative", "cpu_target": 60}, "in Knative mode set concurrency"),
        ({"strategy": "canary"}, "needs min_replicas ≥ 2"),
        ({"canary_steps": (50, 10)}, "must rise"),
        ({"canary_steps": (100,)}, "less than or equal to 99"),
        ({"timeout_s": "inf"}, "finite number"),
        ({"review": "/mnt/review"}, "not a store that pods can write to"),
        ({"review": "s3:///store"}, "not a store that pods can write to"),
        ({"review_secret": "review"}, "review_secret is for writing to review"),
        ({"memory": "2GB"}, "'2GB' is not an amount"),
        ({"cpu": "two"}, "'two' is not an amount"),
        ({"namespace": "Bad_NS"}, "'Bad_NS' is not a namespace of Kubernetes"),
        ({"namespace": "a.b"}, "not a namespace of Kubernetes"),
        ({"service_account": "Server 1"}, "not a name that Kubernetes takes"),
        ({"traces": "collector:4318"}, "is not an address"),
        ({"review": "s3://a/b", "review_secret": "-a"}, "not a name that Kubernetes takes"),
        ({"url": "gateway"}, "'gateway' is not an address: write http://HOST"),
        ({"url": "http://"}, "not an address"),
        ({"url": "http://a:port"}, "not an address"),
        ({"replicas": 2}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KServeSettings(**{"namespace": NAMESPACE, "image": "registry.example/serve:1", **settings})


def test_a_digest_is_as_good_as_a_tag() -> None:
    image = f"registry.example:5000/serve@sha256:{'0' * 64}"
    assert KServeSettings(namespace=NAMESPACE, image=image).image == image


@pytest.mark.parametrize("amount", ["2", "500m", "1Gi", "1.5G", "2e3", "128Mi", "1k", "1E"])
def test_amounts_as_kubernetes_writes_them(amount: str) -> None:
    settings = KServeSettings(
        namespace=NAMESPACE, image="registry.example/serve:1", cpu=amount, memory=amount
    )
    assert (settings.cpu, settings.memory) == (amount, amount)


def test_the_steps_of_a_canary_may_be_a_text() -> None:
    settings = KServeSettings(namespace=NAMESPACE, image="registry.example/serve:1", canary_steps="5,50")
    assert settings.canary_steps == (5, 50)
