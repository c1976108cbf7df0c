"""Pods that the cluster does not take: which are taken, and what a refusal says to do."""

import pytest
from cluster.world import KNATIVE, NAME, SETTINGS, TWO, World, put_namespace

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.refusals import STORAGE_CONTAINER_FIX, fix_of
from defectline.components.deploy.kserve.settings import KServeSettings

CANARY = TWO.model_copy(update={"strategy": "canary", "canary_step_s": 0.0})
GPU = SETTINGS.model_copy(update={"gpu": 1})


@pytest.mark.parametrize(
    ("level", "flavour", "settings"),
    [
        ("restricted", "helm", SETTINGS),
        ("restricted", "helm", GPU),
        ("restricted", "patched", SETTINGS),
        ("restricted", "patched", KNATIVE),
        ("baseline", "plain", SETTINGS),
        ("baseline", "plain", KNATIVE),
        ("privileged", "plain", SETTINGS),
    ],
)
def test_the_namespace_takes_the_pods(
    world: World, level: str, flavour: str, settings: KServeSettings
) -> None:
    put_namespace(world.api, level, flavour)
    world.deploy(0, settings)
    world.ask(0)


def test_the_canary_of_a_service_without_a_security_context_is_taken_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deployed before there was one, and in a namespace that asked for none."""
    monkeypatch.setenv("http_proxy", world.endpoint.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    world.deploy(0, CANARY)
    service = world.service()
    del service["spec"]["predictor"]["securityContext"]
    world.api.put("inferenceservices", "vision", NAME, service)
    put_namespace(world.api, "restricted", "helm")
    world.deploy(1, CANARY)
    world.ask(1)


@pytest.mark.parametrize(
    ("flavour", "settings", "names"),
    [
        ("plain", SETTINGS, ["allowPrivilegeEscalation != false", "unrestricted capabilities"]),
        ("plain", KNATIVE, ["allowPrivilegeEscalation", "runAsNonRoot != true", "seccompProfile"]),
        ("helm", KNATIVE, ['seccompProfile (pod or container "storage-initializer"']),
    ],
)
def test_a_refused_pod_ends_the_deployment_at_once_with_the_fix(
    world: World, flavour: str, settings: KServeSettings, names: list[str]
) -> None:
    put_namespace(world.api, "restricted", flavour)
    # Nobody but an administrator may look at it beforehand.
    world.api.denied = {("list", "clusterstoragecontainers")}
    with pytest.raises(ServingError, match="nothing serves, as before") as caught:
        world.deploy(0, settings)
    assert 'violates PodSecurity "restricted:v1.32"' in caught.value.got
    for name in names:
        assert name in caught.value.got
    assert caught.value.fix == f"{STORAGE_CONTAINER_FIX}."
    assert "manifests/cluster/storage-container.yaml" in caught.value.fix
    assert world.service() == {}


def test_knative_takes_no_security_context_of_a_pod(world: World) -> None:
    """So none is set there; the stand-in would say so."""
    world.deploy(0, KNATIVE)
    assert "securityContext" not in world.spec()["predictor"]
    service = world.service()
    service["spec"]["predictor"]["securityContext"] = {"runAsNonRoot": True}
    said = world.controller._fault("vision", NAME, service["spec"]["predictor"], knative=True)
    assert "must not set the field(s): spec.template.spec.securityContext.runAsNonRoot" in said


def test_no_user_is_chosen(world: World) -> None:
    """OpenShift gives each namespace user ids of its own."""
    world.deploy(0)
    assert world.spec()["predictor"]["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("exceeded quota: vision, requested: cpu=1, used: cpu=4", "Raise the namespace's quota"),
        ("maximum cpu usage per Container is 500m, but limit is 1", "LimitRange"),
        ("unable to validate against any security context constraint: []", "SCC restricted-v2"),
        ('failed calling webhook "inferenceservice.kserve-webhook-server.pod-mutator"', "kserve-controller"),
        ('admission webhook "validate.kyverno.svc" denied the request: no digest', "an exception"),
        (
            'error looking up service account vision/models: serviceaccount "models" not found',
            "service_account",
        ),
        ('violates PodSecurity "restricted:v1.32": x (container "queue-proxy" must)', "secure-pod-defaults"),
        ('violates PodSecurity "restricted:v1.32": x (container "istio-init" must)', "CNI plugin"),
        ('violates PodSecurity "restricted:v1.32": x (container "agent" must)', "the namespace's standard"),
        ("something that is not known", "Fix what the message names."),
    ],
)
def test_what_is_to_be_done(message: str, fix: str) -> None:
    assert fix in fix_of(message)


def test_two_containers_that_are_refused_have_two_fixes() -> None:
    fix = fix_of('violates PodSecurity "restricted": x (containers "storage-initializer", "istio-init" must)')
    assert "storage-container.yaml" in fix
    assert "CNI plugin" in fix
