"""What the pods of a spec wait for, and when it is certain that they cannot start."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.manifests import SERVICE_LABEL, SPEC_LABEL, Manifest
from defectline.components.deploy.kserve.refusals import fix_of

LOG_LINES = 5
CHANCES = 20
"""Looks for which a failure that may pass is waited out: with two seconds between them, 40 s. kubelet tries
again at once, and after 10, 20 and 40 s."""
FETCH_FIX = "Give `service_account` a secret that may read the store; see manifests/secrets."
_PULL_FIX = "Check `image`, and the pull secrets of the service account."
_NODE_FIX = "Look at the node that the pod is on, with the event."
WAITING = {
    "CrashLoopBackOff": "Read the log, and check that the image is of the same release as the pipeline.",
    "CreateContainerConfigError": "Create what the message names in the namespace.",
    "CreateContainerError": _NODE_FIX,
    "RunContainerError": _NODE_FIX,
    "PostStartHookError": _NODE_FIX,
    "ErrImageNeverPull": "Bring the image to every node, or set another pull policy.",
    "ErrImagePull": _PULL_FIX,
    "ImageInspectError": _NODE_FIX,
    "ImagePullBackOff": _PULL_FIX,
    "InvalidImageName": "Correct `image`.",
    "RegistryUnavailable": _PULL_FIX,
    "SignatureValidationFailed": "Sign the image, or correct `image`.",
}
"""Reasons why a container waits that are faults, with what to do."""
FINAL = ("InvalidImageName", "ErrImageNeverPull")
"""Those of them that no other try changes."""
_FILLER = {"error", "failed"}
NEW_WORDS = 0.25
"""A text of which a smaller part is new says nothing new."""


class _Failure(NamedTuple):
    container: str
    reason: str
    fix: str
    final: bool


class PodWatch:
    """The pods of one spec, which carry `labels`, and how long their failures have lasted."""

    def __init__(
        self, cluster: Cluster, name: str, version: str, labels: dict[str, str], chances: int = CHANCES
    ):
        self.cluster, self.name, self.version, self.labels = cluster, name, version, labels
        self.chances = chances
        self._failing = False

    def tick(self) -> None:
        """Begin another look: a failure at the last one has used up a chance."""
        self.chances -= self._failing
        self._failing = False

    def look(self, last: bool = False) -> str:
        """What the pods wait for, "" where nothing is known.

        Raises ServingError where a pod cannot start any more: for certain, or since no chance is left, or
        where this is the `last` look.
        """
        waits = []
        for pod in self.cluster.pods({SERVICE_LABEL: self.name, **self.labels}):
            if not carries(pod["metadata"]["labels"], self.labels):
                continue
            pod_name, failure = pod["metadata"]["name"], _failure(pod.get("status", {}))
            if failure is None:
                reason = _waiting(pod.get("status", {})) or self._warning(pod)
                waits += [f"pod {pod_name}: {reason}"] if reason else []
                continue
            if last or failure.final or self.chances <= 0:
                raise self._error(pod_name, failure)
            self._failing = True
            waits.append(f"pod {pod_name}: {failure.container} {failure.reason}")
        return "; ".join(waits)

    def refused(self, what: str, condition: Manifest) -> str:
        """What the `condition` of what should make pods says. Raises ServingError where it stays."""
        message, reason = condition.get("message", ""), condition.get("reason", "")
        final = "violates PodSecurity" in message or reason == "ProgressDeadlineExceeded"
        if final or self.chances <= 0:
            self.look(last=True)  # a pod's own reason says more
            raise ServingError(
                f"{what} cannot start its pods.",
                got=f"{condition['type']} {condition['status']} {reason}: {message}",
                expected="its pods to become ready",
                fix=fix_of(message),
            )
        self._failing = True
        return f"{reason}: {message}"

    def _warning(self, pod: Manifest) -> str:
        """The latest event about a pod whose containers wait without a reason, such as a volume's."""
        statuses = [*_containers(pod.get("status", {}))]
        if statuses and all("waiting" not in one["state"] for one in statuses):
            return ""
        return self.cluster.latest_event(pod["metadata"]["name"], warning=True)

    def _error(self, pod_name: str, failure: _Failure) -> ServingError:
        parts = [f"pod {pod_name}: {failure.container} {failure.reason}"]
        if log := self.cluster.log(pod_name, failure.container, LOG_LINES):
            parts.append(f"log: {' | '.join(log.splitlines())}")
        if event := self.cluster.latest_event(pod_name):
            parts.append(f"latest event: {event}")
        return ServingError(
            f"Version {self.version} of {self.name} cannot start.",
            got="; ".join(told_once(parts)),
            expected="its pods to become ready",
            fix=failure.fix,
        )


def check_pods(cluster: Cluster, name: str, version: str, labels: dict[str, str]) -> None:
    """Raise ServingError if a pod of this spec, which has been ready, fails."""
    PodWatch(cluster, name, version, labels).look(last=True)


def carries(carried: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a child with the labels `carried` has the spec with `labels`, which may be of another owner."""
    return labels.items() <= carried.items() and carried.get(SPEC_LABEL) == labels.get(SPEC_LABEL)


def told_once(texts: Iterable[str]) -> list[str]:
    """The texts without those that say again what others before them do."""
    told, said = [], set(_FILLER)
    for text in texts:
        words = set(re.findall(r"\w+", text.lower()))
        if len(words - said) > NEW_WORDS * len(words):
            told.append(text)
            said |= words
    return told


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _failure(status: dict[str, Any]) -> _Failure | None:
    """What is wrong with the first container of a pod that has failed."""
    init = status.get("initContainerStatuses") or []
    for container in _containers(status):
        waiting = container["state"].get("waiting") or {}
        reason, ended = waiting.get("reason"), container["state"].get("terminated")
        if container in init and ended and ended["exitCode"] != 0:
            return _Failure(container["name"], f"failed ({_ending(ended)})", FETCH_FIX, False)
        if reason in WAITING:
            last, message = container.get("lastState", {}).get("terminated"), message_of(container)
            details = _ending(last) if last else message
            crashed = reason == "CrashLoopBackOff"
            fix = FETCH_FIX if crashed and container in init else WAITING[reason]
            as_root = "runAsNonRoot" in message or "run as root" in message
            if as_root:
                fix = "Use an image whose user is a number, and not 0."
            # A server that crashed has been started again already.
            final = reason in FINAL or as_root or (crashed and container not in init)
            text = f"{reason} ({details})" if details else reason
            return _Failure(container["name"], text, fix, final)
    return None


def message_of(container: Manifest) -> str:
    """What is said of a container that waits; where it is about its image, the image's name is in it."""
    waiting, image = container["state"].get("waiting") or {}, container.get("image", "")
    message = str(waiting.get("message", ""))
    if "Image" not in waiting.get("reason", "") or image in message:
        return message
    return f"{message}, image {image}" if message else f"image {image}"


def _waiting(status: dict[str, Any]) -> str:
    """Why a pod has no node, or how its server ended that is about to start again."""
    for condition in status.get("conditions") or []:
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for container in _containers(status):
        ended = container["state"].get("terminated")
        if ended and ended["exitCode"] != 0:
            return f"{container['name']} ended ({_ending(ended)})"
    return ""


def _ending(terminated: dict[str, Any]) -> str:
    parts = [f"exit code {terminated['exitCode']}", terminated.get("reason"), terminated.get("message")]
    return ", ".join(part.strip() for part in parts if part)
