"""Wait until a new spec really serves.

The Ready condition of an InferenceService stays True while a rolling update runs or its pods crash, so
this looks at what KServe makes of the spec: the Deployment or Knative revision, and its pods.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from defectline.components.common.errors import ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import Retry, poll
from defectline.components.deploy.kserve.answers import Unavailable, conflict
from defectline.components.deploy.kserve.cluster import DEPLOYMENTS, REVISIONS, SERVICES, Cluster, same_spec
from defectline.components.deploy.kserve.manifests import (
    SERVICE_LABEL,
    SPEC_LABEL,
    Manifest,
    mode_of,
    version_of,
)
from defectline.components.deploy.kserve.refusals import fix_of

LOG_LINES = 5
TERMINAL_REASONS = {
    "CrashLoopBackOff": "Read the log, and check that the image is of the same release as the pipeline.",
    "CreateContainerConfigError": "Create what the message names in the namespace.",
    "ErrImagePull": "Check `image`, and the pull secrets of the service account.",
    "ImagePullBackOff": "Check `image`, and the pull secrets of the service account.",
    "InvalidImageName": "Correct `image`.",
}
"""Reasons why a container waits that do not go away by themselves, with what to do."""
FETCH_FIX = "Give `service_account` a secret that may read the store; see manifests/secrets."


def wait_until_rolled_out(
    cluster: Cluster, service: Manifest, timeout_s: float, poll_s: float, canary: Manifest | None = None
) -> Manifest:
    """Return the InferenceService once all pods of the spec in `service` are ready and routes lead to them.

    With `canary`, an entry of its `spec.canary`, only the pods of that one count. Raises ServingError as
    soon as a pod cannot start, and after `timeout_s`; the error names the pod, the reason, the last lines
    of its log and the latest event. Raises Conflict if another process changes the service meanwhile.
    """
    name = service["metadata"]["name"]
    predictor = canary["predictor"] if canary else service["spec"]["predictor"]
    labels, version = predictor.get("labels", {}), version_of({"predictor": predictor})
    base = f"{name}-{predictor['name']}" if predictor.get("name") else name
    said = ""

    def look() -> Manifest:
        nonlocal said
        try:
            latest = cluster.get(SERVICES, name)
            if latest is None or not same_spec(latest, service):
                raise conflict(SERVICES, name)
            pending = _pending(cluster, latest, base, predictor, canary is not None)
            if not pending:
                return latest
            check_pods(cluster, name, version, labels)
        except Unavailable as error:
            pending = f"{error.what} {error.got}"
        if pending != said:
            say(f"{name} {version}: {pending}")
            said = pending
        raise _Pending(pending)

    try:
        return poll(look, timeout_s, poll_s, _Pending)
    except _Pending as pending:
        raise ServingError(
            f"Version {version} of {name} did not come up.",
            got=f"after {timeout_s:g} s {pending}{_diagnostics(cluster, name, base)}",
            expected="all its pods ready",
            fix="Fix what the event or condition names, or raise `timeout_s`.",
        ) from None


class _Pending(Exception):
    """What a rollout still waits for."""


def wait_until_gone(cluster: Cluster, name: str, timeout_s: float, poll_s: float) -> None:
    """Return once neither an InferenceService `name` nor a pod of it is left; ServingError after `timeout_s`.

    Until its pods are gone, they count for the namespace's quota.
    """

    def look() -> None:
        left = "the service is" if cluster.get(SERVICES, name) is not None else ""
        if not left and cluster.pods({SERVICE_LABEL: name}, ending=True):
            left = "its pods are"
        if left:
            raise Retry(
                f"InferenceService {name} does not go away.",
                got=f"{left} still there {timeout_s:g} s after it was deleted",
                expected="KServe's controller to remove it",
                fix="Look at the log of KServe's controller.",
            )

    poll(look, timeout_s, poll_s)


def _pending(cluster: Cluster, service: Manifest, base: str, predictor: Manifest, canary: bool) -> str:
    """What the rollout still waits for, or ''."""
    labels = predictor.get("labels", {})
    if mode_of(service) == "Knative":
        pending = _knative_pending(cluster, service, labels)
    else:
        # While there is a canary, its pods are taken off these.
        least = 1 if canary or "canary" in service["spec"] else predictor.get("minReplicas", 1)
        pending = _deployment_pending(cluster, f"{base}-predictor", labels, least)
    if not pending and not service.get("status", {}).get("url"):
        return "waiting for its URL"
    return pending


def _deployment_pending(cluster: Cluster, name: str, labels: dict[str, str], least: int) -> str:
    deployment = cluster.get(DEPLOYMENTS, name)
    if deployment is None:
        return "waiting for KServe to create its Deployment"
    spec, status = deployment["spec"], deployment.get("status", {})
    carried = spec["template"]["metadata"].get("labels", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    if not (_carries(carried, labels) and seen):
        return "waiting for its Deployment to take the new spec"
    for condition in status.get("conditions", []):
        refused = (condition["type"], condition["status"]) == ("ReplicaFailure", "True")
        if refused or condition.get("reason") == "ProgressDeadlineExceeded":
            _stuck(f"Deployment {name}", condition)
    # Kubernetes leaves out counts that are 0.
    keys = ("updatedReplicas", "replicas", "availableReplicas")
    updated, total, available = (status.get(key, 0) for key in keys)
    wanted = max(1, least, spec.get("replicas", 1))
    if updated == total == available >= wanted:
        return ""
    return f"{updated} new pods of {wanted}, {total} in all, {available} available"


def _knative_pending(cluster: Cluster, service: Manifest, labels: dict[str, str]) -> str:
    status = service.get("status", {})
    predictor = status.get("components", {}).get("predictor", {})
    created, ready = predictor.get("latestCreatedRevision"), predictor.get("latestReadyRevision")
    revision = cluster.get(REVISIONS, created) if created else None
    if not revision or not _carries(revision["metadata"].get("labels", {}), labels):
        return "waiting for KServe to create its revision"
    if ready != created:
        for condition in revision.get("status", {}).get("conditions", []):
            if (condition["type"], condition["status"]) == ("Ready", "False"):
                check_pods(cluster, service["metadata"]["name"], version_of(service["spec"]), labels)
                _stuck(f"Revision {created}", condition)
        return f"waiting for revision {created} to become ready"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    waiting = [kind for kind in ("PredictorReady", "RoutesReady") if conditions.get(kind) != "True"]
    return f"waiting for {' and '.join(waiting)}" if waiting else ""


def _carries(carried: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a child with the labels `carried` has the spec with `labels`, which may be of another owner."""
    return labels.items() <= carried.items() and carried.get(SPEC_LABEL) == labels.get(SPEC_LABEL)


def _stuck(what: str, condition: Manifest) -> NoReturn:
    message = condition.get("message", "")
    raise ServingError(
        f"{what} cannot start its pods.",
        got=f"{condition['type']} {condition['status']} {condition.get('reason', '')}: {message}",
        expected="its pods to become ready",
        fix=fix_of(message),
    )


def check_pods(cluster: Cluster, name: str, version: str, labels: dict[str, str]) -> None:
    """Raise ServingError if a pod of this spec cannot start any more."""
    for pod in cluster.pods({SERVICE_LABEL: name, **labels}):
        if not _carries(pod["metadata"]["labels"], labels):
            continue
        failed = _failed_container(pod.get("status", {}))
        if failed is None:
            continue
        container, reason, fix = failed
        pod_name = pod["metadata"]["name"]
        parts = [f"pod {pod_name}: {container} {reason}"]
        if log := cluster.log(pod_name, container, LOG_LINES):
            parts.append(f"log: {' | '.join(log.splitlines())}")
        if event := cluster.latest_event(pod_name):
            parts.append(f"latest event: {event}")
        raise ServingError(
            f"Version {version} of {name} cannot start.",
            got="; ".join(parts),
            expected="its pods to become ready",
            fix=fix,
        )


def _failed_container(status: dict[str, Any]) -> tuple[str, str, str] | None:
    """Name, reason and fix of the first container of a pod that has failed for good."""
    init = status.get("initContainerStatuses", [])
    for container in [*init, *status.get("containerStatuses", [])]:
        waiting = container["state"].get("waiting", {})
        reason, ended = waiting.get("reason"), container["state"].get("terminated")
        if container in init and ended and ended["exitCode"] != 0:
            return container["name"], f"failed ({_ending(ended)})", FETCH_FIX
        if reason in TERMINAL_REASONS:
            last = container.get("lastState", {}).get("terminated")
            details = _ending(last) if last else waiting.get("message", "")
            crashed = container in init and reason == "CrashLoopBackOff"
            fix = FETCH_FIX if crashed else TERMINAL_REASONS[reason]
            return container["name"], f"{reason} ({details})" if details else reason, fix
    return None


def _ending(terminated: dict[str, Any]) -> str:
    parts = [f"exit code {terminated['exitCode']}", terminated.get("reason"), terminated.get("message")]
    return ", ".join(part.strip() for part in parts if part)


def _diagnostics(cluster: Cluster, name: str, base: str) -> str:
    """What the service's conditions and the latest event say, as far as the cluster answers."""
    said = [_quietly(lambda: cluster.latest_event(base)), _quietly(lambda: _untrue_conditions(cluster, name))]
    return "".join(f"; {text}" for text in said if text)


def _untrue_conditions(cluster: Cluster, name: str) -> str:
    service = cluster.get(SERVICES, name) or {}
    return ", ".join(
        f"{c['type']} {c['status']} {c.get('reason', '')} {c.get('message', '')}".strip()
        for c in service.get("status", {}).get("conditions", [])
        if c["status"] != "True"
    )


def _quietly(look: Callable[[], str]) -> str:
    try:
        return look()
    except ServingError as error:
        return error.what
