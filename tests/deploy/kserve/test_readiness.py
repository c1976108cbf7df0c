"""Waiting for pods: until they are ready, cannot start any more, or are gone."""

from types import SimpleNamespace
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import NAME, NAMESPACE, World

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.readiness import wait_until_gone


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
