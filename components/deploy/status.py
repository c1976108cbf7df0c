"""What serves, found where it serves."""

from pydantic import BaseModel, ConfigDict

from defectline.components.common.records import Outcome, read_champion, read_gate, read_outcome
from defectline.components.common.storage import Storage, open_storage


class Status(BaseModel):
    """What serves a model on this machine or in a namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    namespace: str = ""
    """Empty for this machine."""
    version: str = ""
    """Empty where nothing serves."""
    former: str = ""
    """What `rollback` goes back to; empty for nothing."""
    url: str = ""
    ready_pods: int | None = None
    """Of the version; None on this machine."""
    wanted_pods: int | None = None
    under_way: list[str] = []
    """Candidates, canaries and rollouts that have not ended."""
    last_run: str = ""
    """The last run that reached its gate."""
    last_outcome: Outcome | None = None


def read_status(store: str, name: str, namespace: str = "") -> Status:
    """What serves `name` on this machine, or in `namespace` of the cluster. Raises DefectlineError."""
    storage = open_storage(store)
    gated = read_gate(storage, name)
    last = {
        "last_run": gated.run if gated else "",
        "last_outcome": read_outcome(storage, gated.run) if gated else None,
    }
    if namespace:
        return _on_kserve(storage, name, namespace).model_copy(update=last)
    current = read_champion(storage, name)
    if current is None:
        return Status(name=name).model_copy(update=last)
    return Status(name=name, version=current.version, former=current.previous).model_copy(update=last)


def _on_kserve(store: Storage, name: str, namespace: str) -> Status:
    from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
    from defectline.components.deploy.kserve.history import History
    from defectline.components.deploy.kserve.manifests import (
        SERVICE_LABEL,
        VERSION_LABEL,
        candidate_name,
        version_of,
    )

    cluster, history = Cluster(namespace), History(store, namespace, name)
    under_way = []
    if candidate := cluster.get(SERVICES, candidate_name(name)):
        under_way.append(f"candidate {version_of(candidate['spec'])}")
    service = cluster.get(SERVICES, name)
    if service is None:
        return Status(name=name, namespace=namespace, ready_pods=0, under_way=under_way)
    spec, version = service["spec"], version_of(service["spec"])
    for canary in spec.get("canary") or []:
        under_way.append(f"canary {version_of(canary)} at {canary['trafficPercent']} %")
    if (percent := spec["predictor"].get("canaryTrafficPercent")) is not None:
        under_way.append(f"canary {version} at {percent} %")
    if history.is_unfinished(service):
        under_way.append(f"rollout of {version}, not checked yet")
    pods = cluster.pods({SERVICE_LABEL: name, VERSION_LABEL: version})
    deployed = history.deployed(version)
    return Status(
        name=name,
        namespace=namespace,
        version=version,
        former=deployed.former if deployed else "",
        url=service.get("status", {}).get("url", ""),
        ready_pods=sum(_is_ready(pod) for pod in pods),
        wanted_pods=spec["predictor"].get("minReplicas", 1),
        under_way=under_way,
    )


def _is_ready(pod: dict) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)
