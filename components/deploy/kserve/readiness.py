"""Wait until a new spec really serves.

The Ready condition of an InferenceService stays True while a rolling update runs or its pods crash, so
this looks at what KServe makes of the spec: the Deployment or Knative revision, and its pods.
"""

from collections.abc import Callable

from defectline.components.common.errors import ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import Retry, poll
from defectline.components.deploy.kserve.answers import Unavailable, conflict
from defectline.components.deploy.kserve.cluster import DEPLOYMENTS, REVISIONS, SERVICES, Cluster, same_spec
from defectline.components.deploy.kserve.manifests import (
    SERVICE_LABEL,
    Manifest,
    mode_of,
    version_of,
)
from defectline.components.deploy.kserve.pods import PodWatch, carries, told_once


def wait_until_rolled_out(
    cluster: Cluster, service: Manifest, timeout_s: float, poll_s: float, canary: Manifest | None = None
) -> Manifest:
    """Return the InferenceService once all pods of the spec in `service` are ready and routes lead to them.

    With `canary`, an entry of its `spec.canary`, only the pods of that one count. Raises ServingError where a
    pod cannot start, once kubelet has tried again for a while, and after `timeout_s`; the error names the
    pod, the reason, the last lines of its log and the latest event. Raises Conflict if another process
    changes the service meanwhile.
    """
    name = service["metadata"]["name"]
    predictor = canary["predictor"] if canary else service["spec"]["predictor"]
    labels, version = predictor.get("labels", {}), version_of({"predictor": predictor})
    base = f"{name}-{predictor['name']}" if predictor.get("name") else name
    said, watch = "", PodWatch(cluster, name, version, labels)

    def look() -> Manifest:
        nonlocal said
        watch.tick()
        try:
            latest = cluster.get(SERVICES, name)
            if latest is None or not same_spec(latest, service):
                raise conflict(SERVICES, name)
            pending = _pending(cluster, latest, base, predictor, canary is not None, watch)
            if not pending:
                return latest
            pending = "; ".join(told_once([pending, watch.look()]))
        except Unavailable as error:
            pending = f"{error.what} {error.got}"
        if pending != said:
            say(f"{name} {version}: {pending}")
            said = pending
        raise _Pending(pending)

    try:
        return poll(look, timeout_s, poll_s, _Pending)
    except _Pending as pending:
        _quietly(lambda: watch.look(last=True))
        said = f"after {timeout_s:g} s {pending}"
        raise ServingError(
            f"Version {version} of {name} did not come up.",
            got="; ".join(told_once([said, *_diagnostics(cluster, name, base)])),
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


def _pending(
    cluster: Cluster, service: Manifest, base: str, predictor: Manifest, canary: bool, watch: PodWatch
) -> str:
    """What the rollout still waits for, or ''."""
    labels = predictor.get("labels", {})
    if mode_of(service) == "Knative":
        pending = _knative_pending(cluster, service, labels, watch)
    else:
        # While there is a canary, its pods are taken off these.
        least = 1 if canary or "canary" in service["spec"] else predictor.get("minReplicas", 1)
        pending = _deployment_pending(cluster, f"{base}-predictor", labels, least, watch)
    if not pending and not service.get("status", {}).get("url"):
        return "waiting for its URL"
    return pending


def _deployment_pending(
    cluster: Cluster, name: str, labels: dict[str, str], least: int, watch: PodWatch
) -> str:
    deployment = cluster.get(DEPLOYMENTS, name)
    if deployment is None:
        return "waiting for KServe to create its Deployment"
    spec, status = deployment["spec"], deployment.get("status", {})
    carried = spec["template"]["metadata"].get("labels", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    if not (carries(carried, labels) and seen):
        return "waiting for its Deployment to take the new spec"
    for condition in status.get("conditions", []):
        refused = (condition["type"], condition["status"]) == ("ReplicaFailure", "True")
        if refused or condition.get("reason") == "ProgressDeadlineExceeded":
            return watch.refused(f"Deployment {name}", condition)
    # Kubernetes leaves out counts that are 0.
    keys = ("updatedReplicas", "replicas", "availableReplicas")
    updated, total, available = (status.get(key, 0) for key in keys)
    wanted = max(1, least, spec.get("replicas", 1))
    if updated == total == available >= wanted:
        return ""
    return f"{updated} new pods of {wanted}, {total} in all, {available} available"


def _knative_pending(cluster: Cluster, service: Manifest, labels: dict[str, str], watch: PodWatch) -> str:
    status = service.get("status", {})
    predictor = status.get("components", {}).get("predictor", {})
    created, ready = predictor.get("latestCreatedRevision"), predictor.get("latestReadyRevision")
    revision = cluster.get(REVISIONS, created) if created else None
    if not revision or not carries(revision["metadata"].get("labels", {}), labels):
        return "waiting for KServe to create its revision"
    if ready != created:
        for condition in revision.get("status", {}).get("conditions", []):
            if (condition["type"], condition["status"]) == ("Ready", "False"):
                return watch.refused(f"Revision {created}", condition)
        return f"waiting for revision {created} to become ready"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    waiting = [kind for kind in ("PredictorReady", "RoutesReady") if conditions.get(kind) != "True"]
    return f"waiting for {' and '.join(waiting)}" if waiting else ""


def _diagnostics(cluster: Cluster, name: str, base: str) -> list[str]:
    """What the latest event and the service's conditions say, as far as the cluster answers."""
    return [_quietly(lambda: cluster.latest_event(base)), _quietly(lambda: _untrue_conditions(cluster, name))]


def _untrue_conditions(cluster: Cluster, name: str) -> str:
    """The conditions that should be otherwise; those that say the same, together."""
    service = cluster.get(SERVICES, name) or {}
    kinds: dict[str, list[str]] = {}
    for condition in service.get("status", {}).get("conditions", []):
        kind, status = condition["type"], condition["status"]
        # Others are no states to be reached: Stopped is False where all is well, and some only inform.
        if (kind == "Stopped" and status == "True") or (kind.endswith("Ready") and status != "True"):
            said = f"{status} {condition.get('reason', '')} {condition.get('message', '')}".strip()
            kinds.setdefault(said, []).append(kind)
    return ", ".join(f"{' and '.join(names)} {said}" for said, names in kinds.items())


def _quietly(look: Callable[[], str]) -> str:
    try:
        return look()
    except Unavailable as error:
        return error.what
