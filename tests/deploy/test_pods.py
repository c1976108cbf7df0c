"""What a run's pods tell: the shapes are those of a real kubelet and of Argo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.api import ApiServer

from defectline.components.common.errors import ServingError
from defectline.components.deploy.pods import PULL_S, find_trouble, look_at

NAMESPACE, RUN = "kubeflow", "0f0b8d4e-6f0e-4a3c-9b7e-1c1d1b3a5e77"
TRAIN = "defectline-x7k2p.root.run.condition-anything-new-1.train.executor(0)"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    api = ApiServer()
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield api


def put(api: ApiServer, status: dict[str, Any], node: str = TRAIN, run: str = RUN, made: str = "05") -> None:
    name = f"defectline-x7k2p-system-container-impl-{len(api.objects)}"
    main = {"name": "main", "image": "train:1", "resources": {"limits": {"memory": "8Gi"}}}
    api.put(
        "pods",
        NAMESPACE,
        name,
        {
            "metadata": {
                "labels": {"pipeline/runid": run},
                "annotations": {"workflows.argoproj.io/node-name": node},
                "creationTimestamp": f"2026-11-28T06:{made}:00Z",
            },
            "spec": {
                "activeDeadlineSeconds": 5400,
                "containers": [{"name": "wait", "image": "argo:4"}, main],
            },
            "status": status,
        },
    )


def container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    told = {"image": f"{name}:1", "imageID": "", "ready": False, "restartCount": 0, "lastState": {}}
    return {"name": name, "state": state} | told


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [container("main", state)]}


def ended(code: int, reason: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "containerID": "containerd://1"}}
    wait = container("wait", {"terminated": {"exitCode": 0, "reason": "Completed"}})
    phase = "Succeeded" if code == 0 else "Failed"
    return {"phase": phase, "containerStatuses": [container("main", state), wait]}


def test_a_step_that_was_killed_for_memory(api: ApiServer):
    put(api, ended(0, "Completed"), "defectline-x7k2p.root.run.ingest.executor(0)", made="01")
    put(api, ended(137, "OOMKilled"))
    assert find_trouble(RUN, NAMESPACE) == (
        "killed in train, which needed more memory than its limit of 8Gi: give it more, with "
        "`compile --resources train=CPU,MEMORY`"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer"},
            "stopped in train: its time of 90 min was up",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "stopped in train: Evicted: The node was low on resource: memory.",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "s3-keys" not found'),
            "failed in train, whose pod did not start: CreateContainerConfigError: "
            'secret "s3-keys" not found',
        ),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient cpu.",
                    }
                ],
            },
            "failed in train, whose pod found no node: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
    ],
    ids=["time", "evicted", "secret", "no_room"],
)
def test_a_pod_that_was_stopped_or_never_started(api: ApiServer, status: dict[str, Any], said: str):
    put(api, status)
    assert find_trouble(RUN, NAMESPACE) == said


@pytest.mark.parametrize(
    "status",
    [
        ended(0, "Completed"),
        # The step itself has told why.
        ended(2, "Error"),
        waiting("PodInitializing"),
        {"phase": "Pending"},
    ],
)
def test_what_is_no_trouble_of_the_pod(api: ApiServer, status: dict[str, Any]):
    put(api, status)
    put(api, ended(137, "OOMKilled"), run="another")
    assert find_trouble(RUN, NAMESPACE) == ""


def test_the_last_attempt_counts(api: ApiServer):
    put(api, {"phase": "Failed", "reason": "Evicted", "message": "memory"}, made="05")
    put(api, ended(137, "OOMKilled"), TRAIN.replace("(0)", "(1)"), made="07")
    assert find_trouble(RUN, NAMESPACE).startswith("killed in train")


def test_a_driver_is_called_by_its_name(api: ApiServer):
    put(api, ended(137, "OOMKilled"), "defectline-x7k2p.root.run.train-driver")
    assert find_trouble(RUN, NAMESPACE).startswith("killed in train-driver")


def test_without_rights_it_is_said(api: ApiServer):
    api.denied = {("list", "pods")}
    with pytest.raises(ServingError):
        find_trouble(RUN, NAMESPACE)


def test_what_has_not_started_is_told_with_whether_it_ever_will(api: ApiServer):
    put(api, ended(0, "Completed"), "x.root.run.ingest.executor(0)")
    put(api, waiting("CreateContainerConfigError", 'secret "s3-keys" not found'))
    put(api, waiting("ContainerCreating"), "x.root.run.evaluate.executor(0)")
    put(api, waiting("ImagePullBackOff", "not found"), "x.root.run.deploy.executor(0)")
    seen = look_at(RUN, NAMESPACE)
    assert seen.number == 4
    assert [(one.step, one.hopeless) for one in seen.waiting] == [("train", True), ("deploy", True)]
    assert 'secret "s3-keys" not found' in seen.waiting[0].text
    assert look_at("another", NAMESPACE).number == 0


@pytest.mark.parametrize(
    ("reason", "message", "patience_s"),
    [
        ("InvalidImageName", "", 0),
        ("ErrImagePull", "connection reset by peer", PULL_S),
        ("ImagePullBackOff", 'Back-off pulling image "main:1"', PULL_S),
    ],
)
def test_an_image_that_cannot_be_pulled_is_named_and_has_some_minutes(
    api: ApiServer, reason: str, message: str, patience_s: float
):
    put(api, waiting(reason, message))
    [one] = look_at(RUN, NAMESPACE).waiting
    assert one.hopeless
    assert one.patience_s == patience_s
    assert "image" in one.fix
    for text in (one.text, find_trouble(RUN, NAMESPACE)):
        assert f"{reason}: {message}" in text
        assert text.count("main:1") == 1


def test_a_secret_that_is_mounted_and_missing_is_told_by_an_event(api: ApiServer):
    put(api, waiting("ContainerCreating"))
    [pod] = [key[2] for key in api.objects if key[0] == "pods"]
    message = 'MountVolume.SetUp failed for volume "gcs-key" : secret "gcs-key" not found'
    event = {
        "type": "Warning",
        "reason": "FailedMount",
        "message": message,
        "involvedObject": {"kind": "Pod", "name": pod, "namespace": NAMESPACE},
        "lastTimestamp": "2026-11-28T06:05:00Z",
    }
    api.put("events", NAMESPACE, f"{pod}.1", event)
    [one] = look_at(RUN, NAMESPACE).waiting
    assert one.hopeless
    assert 'secret "gcs-key" not found' in one.text
    # Without the right to list events, the pod just starts.
    api.denied = {("list", "events")}
    assert look_at(RUN, NAMESPACE).waiting == []


def test_pods_that_were_started_again_count_their_attempts(api: ApiServer):
    put(api, {"phase": "Running"}, TRAIN.replace("(0)", "(1)"))
    put(api, {"phase": "Running"}, "x.root.run.evaluate.executor(0)")
    assert look_at(RUN, NAMESPACE).attempts == {"train": 2}
