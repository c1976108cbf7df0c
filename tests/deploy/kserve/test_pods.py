"""What pods wait for, and which failures are waited out for how long."""

from types import SimpleNamespace
from typing import Any

import pytest
from cluster.world import NAME, NAMESPACE, World

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.pods import PodWatch, carries, message_of, told_once

LABELS = {"defectline.dev/spec": "1"}
SERVER, FETCHER = "kserve-container", "storage-initializer"
AS_ROOT = "container has runAsNonRoot and image will run as root"


def watch(
    state: dict[str, Any], init: dict[str, Any] | None = None, chances: int = 2, log: str = ""
) -> PodWatch:
    """Of a cluster with one pod, whose containers stay in these states."""
    statuses = {"containerStatuses": [{"name": SERVER, "state": state}]}
    statuses["initContainerStatuses"] = [{"name": FETCHER, "state": init or {"running": {}}}]
    pod = {"metadata": {"name": "pod-1", "labels": LABELS}, "status": statuses}
    cluster: Any = SimpleNamespace(
        pods=lambda labels: [pod], log=lambda *_: log, latest_event=lambda name, warning=False: ""
    )
    return PodWatch(cluster, NAME, "v1", LABELS, chances)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def looks(watched: PodWatch) -> int:
    """How many looks it takes until the error is raised."""
    for number in range(1, 50):
        watched.tick()
        try:
            watched.look()
        except ServingError:
            return number
    return 0


@pytest.mark.parametrize(
    ("state", "init", "expected"),
    [
        (waiting("ErrImagePull", "connection reset"), None, 3),
        (waiting("ImagePullBackOff"), None, 3),
        (waiting("CreateContainerConfigError", 'secret "a" not found'), None, 3),
        (waiting("CreateContainerError", "context deadline exceeded"), None, 3),
        (waiting("RunContainerError"), None, 3),
        (waiting("PodInitializing"), {"terminated": {"exitCode": 1}}, 3),
        (waiting("PodInitializing"), waiting("CrashLoopBackOff"), 3),
        # No other try changes these.
        (waiting("InvalidImageName"), None, 1),
        (waiting("ErrImageNeverPull"), None, 1),
        (waiting("CrashLoopBackOff"), None, 1),
        (
            waiting("CreateContainerConfigError", AS_ROOT),
            None,
            1,
        ),
        # These are no failures.
        (waiting("ContainerCreating"), None, 0),
        (waiting("PodInitializing"), {"terminated": {"exitCode": 0}}, 0),
        ({"running": {}}, None, 0),
        ({"terminated": {"exitCode": 1}}, None, 0),
    ],
)
def test_what_may_pass_has_a_few_looks(
    state: dict[str, Any], init: dict[str, Any] | None, expected: int
) -> None:
    assert looks(watch(state, init)) == expected


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ErrImagePull", "connection reset", "connection reset, image r/serve:1"),
        ("InvalidImageName", "", "image r/serve:1"),
        ("ImagePullBackOff", 'Back-off pulling image "r/serve:1"', 'Back-off pulling image "r/serve:1"'),
        ("CreateContainerConfigError", 'secret "a" not found', 'secret "a" not found'),
    ],
)
def test_what_is_said_of_an_image_has_its_name(reason: str, message: str, expected: str) -> None:
    assert message_of({"state": waiting(reason, message), "image": "r/serve:1"}) == expected
    assert message_of({"state": {"running": {}}, "image": "r/serve:1"}) == ""


def test_an_image_that_runs_as_root_has_a_fix_of_its_own() -> None:
    with pytest.raises(ServingError) as caught:
        watch(waiting("CreateContainerConfigError", AS_ROOT)).look()
    assert caught.value.fix == "Use an image whose user is a number, and not 0."


def test_the_last_look_waits_for_nothing() -> None:
    with pytest.raises(ServingError, match="Version v1 of defects cannot start"):
        watch(waiting("ErrImagePull")).look(last=True)


def test_the_server_that_ended_once_is_told_of() -> None:
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert watch(state).look() == "pod pod-1: kserve-container ended (exit code 137, OOMKilled)"


def test_refused_pods_may_be_taken_later_but_not_by_a_standard() -> None:
    quota = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota",
    }
    watched = watch({"running": {}}, chances=1)
    watched.tick()
    assert watched.refused("Deployment a", quota) == "FailedCreate: exceeded quota"
    watched.tick()
    with pytest.raises(ServingError, match="Deployment a cannot start its pods"):
        watched.refused("Deployment a", quota)
    with pytest.raises(ServingError) as caught:
        watch({"running": {}}).refused("Deployment a", {**quota, "message": "violates PodSecurity x"})
    assert "the namespace's standard" in caught.value.fix


def test_a_reason_is_told_once() -> None:
    log = "NoCredentialsError: Unable to locate credentials"
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": f"{log}\n"}}
    with pytest.raises(ServingError) as caught:
        watch(waiting("PodInitializing"), ended, log=log).look(last=True)
    assert caught.value.got.count("NoCredentialsError") == 1


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["a b c", "a b c"], 1),
        (["pod x: ImagePullBackOff (Back-off pulling image r: not found)", "Back-off pulling image r"], 1),
        (["Unschedulable: 0/3 nodes are available", "FailedScheduling: 0/3 nodes are available: taints"], 2),
        (["waiting", "", "another thing"], 2),
    ],
)
def test_texts_that_say_nothing_new(texts: list[str], told: int) -> None:
    assert len(told_once(texts)) == told


def test_labels() -> None:
    assert carries({"a": "1", "defectline.dev/spec": "2"}, {"a": "1", "defectline.dev/spec": "2"})
    assert not carries({"a": "1", "defectline.dev/spec": "2"}, {"a": "1"})


@pytest.mark.parametrize(
    "said",
    [
        "unable to retrieve container logs for containerd://4a5b",
        'failed to try resolving symlinks in path "/var/log/pods/a/0.log": no such file',
    ],
)
def test_what_kubelet_says_instead_of_a_log_is_no_log(world: World, said: str) -> None:
    world.api.logs["pod-1"] = said
    assert Cluster(NAMESPACE).log("pod-1", SERVER, 5) == ""
    world.api.logs["pod-1"] = "model.xml is not what was sealed"
    assert Cluster(NAMESPACE).log("pod-1", SERVER, 5) == "model.xml is not what was sealed"
