"""Names that are too long for what KServe makes of them are found before anything is written."""

import json

import pytest
from cluster.world import KNATIVE, NAMESPACE, SETTINGS, World, kserve

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.deployer import KServe
from defectline.components.deploy.kserve.names import longest_name, room
from defectline.components.deploy.kserve.preflight.findings import Finding
from defectline.components.deploy.kserve.preflight.naming import naming
from defectline.components.deploy.kserve.settings import KServeSettings

LONG = "n" * 30
"""A namespace's name."""


def found(name: str, namespace: str = NAMESPACE, settings: KServeSettings = SETTINGS) -> list[Finding]:
    return list(naming(Cluster(namespace), name, settings.deployment_mode))


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_the_longest_name_that_is_not_refused_is_served(world: World, settings: KServeSettings) -> None:
    """And one more character is not: the stand-in's KServe, with its own rules, makes nothing of it."""
    longest = longest_name(settings.deployment_mode)
    if settings.deployment_mode == "Standard":
        longest = min(longest, room(NAMESPACE))
    assert found("a" * longest, settings=settings) == []
    [finding] = found("a" * (longest + 1), settings=settings)
    assert "Choose" in finding.fix
    knative = settings.deployment_mode == "Knative"
    fault = world.controller._fault
    assert fault(NAMESPACE, f"{'a' * longest}-candidate", {}, knative) == ""
    assert "no more than 63 characters" in fault(NAMESPACE, f"{'a' * (longest + 1)}-candidate", {}, knative)


def test_name_and_namespace_together_are_too_long(world: World) -> None:
    world.api.namespaces = None
    settings = SETTINGS.model_copy(update={"namespace": LONG})
    assert found("a" * 12, LONG) == []
    [finding] = found("a" * 13, LONG)
    assert finding.got == f"{'a' * 13}-candidate-predictor-{LONG}, 64 characters"
    assert "a name of at most 12 in this namespace" in finding.expected
    assert "Choose a shorter `model_name` (--name) or namespace" in finding.fix
    with pytest.raises(ServingError, match="KServe cannot make a host name"):
        KServe(world.store, "a" * 13, dict(settings)).deploy(world.folders[0], world.bundles[0], "run")
    assert world.writes() == []
    # Knative's hosts have a dot between the two.
    assert found("a" * 13, LONG, KNATIVE) == []


@pytest.mark.parametrize(
    ("template", "fits"),
    [
        ("{{.Name}}.{{.Namespace}}.{{.IngressDomain}}", True),
        ("{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}", False),
        ("{{ .Name }}-line-{{ .Namespace }}.{{ .IngressDomain }}", False),
        ("{{ .Annotations.host }}.{{ .IngressDomain }}", True),  # nobody can tell
        ("", False),
    ],
)
def test_kserves_own_template_counts_where_it_may_be_read(world: World, template: str, fits: bool) -> None:
    config = {"data": {"ingress": json.dumps({"domainTemplate": template} if template else {})}}
    world.api.put("configmaps", "kubeflow", "inferenceservice-config", config)
    assert (found("a" * 13, LONG) == []) == fits
    world.api.denied = {("get", "configmaps")}
    assert found("a" * 13, LONG) != []


def test_a_service_that_has_a_host_shows_the_template(world: World) -> None:
    body = {"spec": {"predictor": {}}, "status": {"url": f"http://{'a' * 13}.{LONG}.example.com"}}
    world.api.put("inferenceservices", LONG, "a" * 13, body)
    assert found("a" * 13, LONG) == []
    body["status"]["url"] = f"http://{'a' * 13}-{LONG}.example.com"
    world.api.put("inferenceservices", LONG, "a" * 13, body)
    assert found("a" * 13, LONG) != []


def test_what_kserve_cannot_call_so_is_not_waited_for_to_the_end_without_a_reason(world: World) -> None:
    """Where the template could not be read and has more in it."""
    world.controller.domain = "{name}-of-the-plant-in-the-north-of-the-country-{namespace}"
    with pytest.raises(ServingError) as caught:
        kserve(world.store, SETTINGS.model_copy(update={"timeout_s": 1})).deploy(
            world.folders[0], world.bundles[0], "run"
        )
    assert "must be no more than 63 characters" in caught.value.got
