"""Whether the namespace takes the pods that KServe makes, before one is refused."""

import re
from collections.abc import Iterator
from typing import Any

from defectline.components.deploy.kserve.cluster import SERVICES, STORAGE_CONTAINERS, Cluster, Permission
from defectline.components.deploy.kserve.manifests import GROUP, POD_SECURITY, Manifest
from defectline.components.deploy.kserve.preflight.findings import Finding, unseen
from defectline.components.deploy.kserve.refusals import STORAGE_CONTAINER_FIX
from defectline.components.deploy.kserve.settings import KServeSettings

ENFORCE = "pod-security.kubernetes.io/enforce"


def pod_security(cluster: Cluster, name: str, store_uri: str, settings: KServeSettings) -> Iterator[Finding]:
    """Whether KServe's container for models meets the standard that the namespace enforces.

    Also where a service serves: KServe that was installed again brings its own container back. What could not
    be looked at is told before the first deployment only.
    """
    serves = cluster.get(SERVICES, name) is not None
    if not cluster.allowed(Permission("get", "", "namespaces"), cluster.namespace):
        if not serves:
            yield unseen(f"the pod security standard of namespace {cluster.namespace}", "get namespaces")
        return
    # Any container that sets no rights meets the other standards.
    if cluster.labels().get(ENFORCE) != "restricted":
        return
    if not cluster.allowed(Permission("list", GROUP, STORAGE_CONTAINERS[2]), namespace=""):
        if not serves:
            yield unseen("KServe's ClusterStorageContainer", f"list {STORAGE_CONTAINERS[2]}")
        return
    found = [one for one in cluster.list_cluster(STORAGE_CONTAINERS) if _takes(one, store_uri)]
    container = found[0]["spec"]["container"] if found else {}
    pod = POD_SECURITY if settings.deployment_mode == "Standard" else {}
    if lacking := list(_lacking(pod, container.get("securityContext") or {})):
        which = f"ClusterStorageContainer {found[0]['metadata']['name']}" if found else "KServe's default"
        yield Finding(
            f"Namespace {cluster.namespace} would refuse the served pods.",
            f"{ENFORCE}: restricted, and {which} without {', '.join(lacking)}",
            "a storage-initializer that meets the standard",
            f"{STORAGE_CONTAINER_FIX}.",
        )


def _takes(storage_container: Manifest, uri: str) -> bool:
    """Whether KServe uses it for `uri`: the first that says so."""
    spec = storage_container["spec"]
    if storage_container.get("disabled") or spec.get("workloadType", "initContainer") != "initContainer":
        return False
    return any(
        uri.startswith(one["prefix"]) if one.get("prefix") else re.search(one.get("regex") or "$^", uri)
        for one in spec["supportedUriFormats"]
    )


def _lacking(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    """What the standard `restricted` wants of a container, and neither it nor its pod has."""
    together = {**pod, **container}
    if container.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation: false"
    if "ALL" not in (container.get("capabilities") or {}).get("drop", []):
        yield "capabilities.drop: [ALL]"
    if together.get("runAsNonRoot") is not True or together.get("runAsUser") == 0:
        yield "runAsNonRoot: true"
    if (together.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "a seccompProfile"
