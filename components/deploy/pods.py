"""What Kubernetes knows of a run's pods, where the account of the pipeline may list them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from defectline.components.common.errors import ServingError
from defectline.components.common.reporting.pod import RUN_LABEL
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.manifests import Manifest
from defectline.components.deploy.kserve.pods import message_of

NODE = "workflows.argoproj.io/node-name"
"""Argo's name for what a pod does: `defectline-x7.root.run.anything-new.train.executor(0)`."""
STARTS = ("ContainerCreating", "PodInitializing")
"""Reasons to wait that pass by themselves."""


_PULL_FIX = "Push the image, or give the steps a login of its registry (`compile --pull-secret`)."
HOPELESS = {
    "CreateContainerConfigError": "Create what the message names.",
    "InvalidImageName": "Correct the image's name, and compile again.",
    "ErrImageNeverPull": "Load the image onto the nodes.",
    "ErrImagePull": _PULL_FIX,
    "ImagePullBackOff": _PULL_FIX,
    "RegistryUnavailable": _PULL_FIX,
}
"""Reasons to wait that do not pass by themselves, with what a person can do."""
PULL_S = 300.0
"""How long an image cannot be pulled before that is believed: registries are away for a moment at times."""


class Waiting(NamedTuple):
    """A pod that has not started."""

    step: str
    text: str
    """Why, in one line."""
    hopeless: bool = False
    """Whether it will not start by itself."""
    fix: str = ""
    patience_s: float = 0
    """How long that must last before it is believed."""


class RunPods(NamedTuple):
    """The pods of a run."""

    number: int
    waiting: Sequence[Waiting] = ()
    """Those that have not started."""
    attempts: Mapping[str, int] = {}
    """By step: how often a pod of it was started, where that is more than once."""


def look_at(run: str, namespace: str) -> RunPods:
    """The pods of the run. Raises ServingError where they cannot be listed."""
    cluster, waiting = Cluster(namespace), []
    attempts: dict[str, int] = {}
    pods = cluster.pods({RUN_LABEL: run})
    for pod in pods:
        status, step = pod.get("status", {}), _step(pod)
        if (number := _attempt(pod)) > 1:
            attempts[step] = max(number, attempts.get(step, 0))
        if status.get("phase") == "Pending":
            found = _waits(step, status) or _waits_for_a_volume(cluster, step, pod["metadata"]["name"])
            waiting += [found] if found else []
    return RunPods(len(pods), waiting, attempts)


def _waits_for_a_volume(cluster: Cluster, step: str, pod: str) -> Waiting | None:
    """A secret that is mounted and missing is told by events alone."""
    try:
        event = cluster.latest_event(pod, warning=True)
    except ServingError:
        return None
    if "FailedMount" not in event and "FailedAttachVolume" not in event:
        return None
    text = f"its pod does not start: {event}"
    return Waiting(step, text, "not found" in event, "Create what the message names.")


def _waits(step: str, status: Manifest) -> Waiting | None:
    for reason, why in _starting(status):
        patience_s = PULL_S if HOPELESS.get(reason) == _PULL_FIX else 0
        text = f"its pod does not start: {why}"
        return Waiting(step, text, reason in HOPELESS, HOPELESS.get(reason, ""), patience_s)
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Waiting(step, f"its pod finds no node: {condition.get('message', '')}")
    return None


def find_trouble(run: str, namespace: str) -> str:
    """What happened to a pod of the run, of which the step in it cannot tell, in one sentence; else "".

    Raises ServingError where the pods cannot be listed.
    """
    pods = Cluster(namespace).pods({RUN_LABEL: run}, ending=True)
    told = ((pod["metadata"].get("creationTimestamp", ""), _tell(pod)) for pod in pods)
    # An earlier attempt of the same step may have ended otherwise.
    return max((one for one in told if one[1]), default=("", ""))[1]


def _tell(pod: Manifest) -> str:
    status, step = pod.get("status", {}), _step(pod)
    killed = next((one for one in _ended(status) if one.get("reason") == "OOMKilled"), None)
    if killed:
        limit = _limit(pod["spec"].get("containers", ()))
        return (
            f"killed in {step}, which needed more memory than its limit{limit}: give it more, with `compile "
            f"--resources {step}=CPU,MEMORY`"
        )
    if status.get("reason") == "DeadlineExceeded":
        minutes = pod["spec"].get("activeDeadlineSeconds", 0) / 60
        return f"stopped in {step}: its time of {minutes:,.0f} min was up"
    if status.get("reason"):
        return f"stopped in {step}: {status['reason']}: {status.get('message', '')}"
    for _, why in _starting(status):
        return f"failed in {step}, whose pod did not start: {why}"
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"failed in {step}, whose pod found no node: {condition.get('message', '')}"
    return ""


def _attempt(pod: Manifest) -> int:
    """At which attempt of its step a pod is: Argo counts from 0, `executor(1)`."""
    last = pod["metadata"].get("annotations", {}).get(NODE, "").rpartition(".")[2]
    number = last.partition("(")[2].removesuffix(")")
    return int(number) + 1 if last.startswith("executor(") and number.isdigit() else 1


def _step(pod: Manifest) -> str:
    """The step that a pod does, or the part of KFP before it, such as `train-driver`."""
    name = pod["metadata"].get("annotations", {}).get(NODE, "")
    parts = [part.partition("(")[0] for part in name.split(".")]
    own = [part for part in parts if part not in ("", "executor")]
    return own[-1] if own else pod["metadata"]["name"]


def _containers(status: Manifest) -> Iterator[Manifest]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from (one for one in status.get(kind) or () if one.get("state"))


def _starting(status: Manifest) -> Iterator[tuple[str, str]]:
    """Of each container that cannot start: the reason, and the same with what is said of it."""
    for container in _containers(status):
        waiting = container["state"].get("waiting")
        if waiting and waiting.get("reason") not in STARTS:
            reason = waiting.get("reason", "")
            yield reason, f"{reason}: {message_of(container)}".removesuffix(": ")


def _ended(status: Manifest) -> Iterator[Manifest]:
    for container in _containers(status):
        for state in ("state", "lastState"):
            if found := (container.get(state) or {}).get("terminated"):
                yield found


def _limit(containers: Sequence[Manifest]) -> str:
    for container in containers:
        if container["name"] == "main":
            limit = container.get("resources", {}).get("limits", {}).get("memory", "")
            return f" of {limit}" if limit else ""
    return ""
