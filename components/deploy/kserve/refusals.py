"""What to do where the API server does not take a pod. Pure."""

STORAGE_CONTAINER_FIX = (
    "Let an administrator give KServe's storage-initializer a securityContext, once a cluster: kubectl patch "
    "clusterstoragecontainer default --type merge --patch-file manifests/cluster/storage-container.yaml"
)

_MESH = ("istio-init", "istio-validation", "linkerd-init", "kuma-init")
"""Containers that service meshes put into pods to redirect their traffic."""


def fix_of(message: str, otherwise: str = "Fix what the message names.") -> str:
    """What to do about pods that were refused with such a message; `otherwise` where nothing is known."""
    if "violates PodSecurity" in message:
        return _pod_security(message)
    if "exceeded quota" in message or "failed quota" in message:
        return "Raise the namespace's quota, or lower `cpu`, `memory` or `gpu`."
    if " usage per Container is " in message or " usage per Pod is " in message:
        return "Set `cpu` and `memory` to what the namespace's LimitRange allows."
    if "security context constraint" in message:
        return "Let an administrator allow the service account to use the SCC restricted-v2."
    if "failed calling webhook" in message:
        return "Look at the log of the server of that webhook; KServe's is kserve-controller-manager."
    if "denied the request" in message:
        return "Ask the administrators of the cluster for an exception from that policy."
    if "serviceaccount" in message and "not found" in message:
        return "Create the service account, or correct `service_account`."
    return otherwise


def _pod_security(message: str) -> str:
    fixes = []
    if '"storage-initializer"' in message:
        fixes.append(STORAGE_CONTAINER_FIX)
    if '"queue-proxy"' in message:
        fixes.append("Set `secure-pod-defaults: enabled` in Knative's ConfigMap config-features")
    if any(f'"{name}"' in message for name in _MESH):
        fixes.append("Install the CNI plugin of the service mesh, so that its init container needs no rights")
    return (
        ". ".join(fixes or ["Change what puts that container into the pod, or the namespace's standard"])
        + "."
    )
