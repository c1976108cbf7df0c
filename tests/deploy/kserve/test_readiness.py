"""Waiting for pods: until they are ready, cannot start any more, or are gone."""

from types import SimpleNamespace
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import IMPATIENT, KNATIVE, NAME, NAMESPACE, SETTINGS, World

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.readiness import _untrue_conditions, wait_until_gone
from defectline.components.deploy.kserve.settings import KServeSettings


def test_a_service_stays_ready_while_its_new_pods_crash(world: World) -> None:
    """The trap that the waiting avoids, so that the tests above mean something."""
    world.deploy(0)
    world.script(1, "crash")
    seen = []

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        if (method, target.part) == ("GET", "log"):
            seen.append({c["type"]: c["status"] for c in world.service()["status"]["conditions"]}["Ready"])

    world.api.before = watch
    with pytest.raises(ServingError):
        world.deploy(1)
    assert set(seen) == {"True"}


def test_a_server_that_is_away_for_a_moment_does_not_end_the_rollout(world: World) -> None:
    world.deploy(0)
    left = 3

    def stumble(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if target.plural == "deployments" and left > 0:
            left -= 1
            raise Failure(503, "ServiceUnavailable", "apiserver is shutting down")

    world.api.before = stumble
    world.deploy(1)
    assert left == 0
    world.ask(1)


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_a_first_failure_that_kubelet_tries_again_does_not_end_the_rollout(
    world: World, settings: KServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of the download, nor of the image, nor of a secret that comes a moment later."""
    world.script(0, "retried")
    world.deploy(0, settings)
    world.ask(0)
    said = capsys.readouterr().out
    for reason in ("storage-initializer failed", "CrashLoopBackOff", "ErrImagePull", "ConfigError"):
        assert reason in said


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("pending", "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."),
        ("volume", "FailedMount: MountVolume.SetUp failed"),
        ("quota", "FailedCreate: pods"),
    ],
)
def test_why_it_waits_is_said_while_it_waits(
    world: World, capsys: pytest.CaptureFixture[str], script: str, reason: str
) -> None:
    world.script(0, script)
    with pytest.raises(ServingError):
        world.deploy(0, IMPATIENT)
    [*lines, last] = [line for line in capsys.readouterr().out.splitlines() if "candidate v" in line]
    assert any(reason in line for line in [*lines, last])


def test_what_is_false_where_all_is_well_is_not_told(world: World) -> None:
    world.script(0, "pending")
    with pytest.raises(ServingError) as caught:
        world.deploy(0, IMPATIENT)
    assert "Stopped" not in caught.value.got
    assert "OciImageVolumeCompatible" not in caught.value.got
    assert "PredictorReady and RoutesReady and IngressReady and Ready False" in caught.value.got
    # The reason of the pod's condition, and not once more that of the event.
    assert caught.value.got.count("Insufficient cpu") == 1


def test_a_service_that_was_stopped_is_told_as_such() -> None:
    conditions = [{"type": "Stopped", "status": "True"}, {"type": "Ready", "status": "True"}]
    service = {"status": {"conditions": conditions}}
    cluster: Any = SimpleNamespace(get=lambda kind, name: service)
    assert _untrue_conditions(cluster, NAME) == "Stopped True"


CANDIDATE = f"{NAME}-candidate"


def test_quota_waits_for_pods_that_are_ending(world: World) -> None:
    left = 3

    def linger(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if target.plural == "pods" and left > 0 and world.candidate() is None and query:
            left -= 1
            metadata = {"labels": {"serving.kserve.io/inferenceservice": CANDIDATE}}
            metadata["deletionTimestamp"] = "2026-11-22T05:51:15Z"
            world.api.put("pods", NAMESPACE, "ending", {"metadata": metadata, "status": {}})
            if left == 0:
                world.api.remove("pods", NAMESPACE, "ending")

    world.api.before = linger
    world.deploy(0)
    assert left == 0


@pytest.mark.parametrize(
    ("service", "pods", "got"),
    [({}, [], "the service is still there"), (None, [{}], "its pods are still there")],
)
def test_what_does_not_go_away_is_named(service: dict | None, pods: list[dict], got: str) -> None:
    cluster: Any = SimpleNamespace(get=lambda kind, name: service, pods=lambda labels, ending: pods)
    with pytest.raises(ServingError, match="InferenceService defects does not go away") as caught:
        wait_until_gone(cluster, NAME, timeout_s=0, poll_s=0)
    assert caught.value.got.startswith(got)


def test_what_is_gone_is_not_waited_for() -> None:
    cluster: Any = SimpleNamespace(get=lambda kind, name: None, pods=lambda labels, ending: [])
    wait_until_gone(cluster, NAME, timeout_s=0, poll_s=0)
