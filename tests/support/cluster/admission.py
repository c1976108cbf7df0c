"""What a real cluster makes of a served pod before it starts: KServe's webhook puts a container into it, and
pod security admission says whether the namespace takes it."""

import copy
import re
from typing import Any

import yaml
from paths import ROOT

from cluster.schemas import Json

ENFORCE, VERSION = "pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version"
INITIALIZER = "storage-initializer"
STORAGE = {
    "name": INITIALIZER,
    "image": "kserve/storage-initializer:v0.21.0",
    "resources": {"requests": {"memory": "100Mi", "cpu": "100m"}, "limits": {"memory": "1Gi", "cpu": "1"}},
}
HELM = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}
"""The securityContext that KServe's Helm chart gives the container; its plain manifests give none."""


def storage_container(flavour: str) -> Json:
    """The ClusterStorageContainer `default` after an installation by `plain` manifests or by `helm`, or
    `patched` by the manifest of ours."""
    container = copy.deepcopy(STORAGE)
    if flavour == "helm":
        container["securityContext"] = dict(HELM)
    elif flavour == "patched":
        ours = yaml.safe_load((ROOT / "manifests/cluster/storage-container.yaml").read_text())
        container |= ours["spec"]["container"]
    formats = [{"prefix": "gs://"}, {"prefix": "s3://"}, {"regex": "https?://(.+)/(.+)"}]
    spec = {"container": container, "supportedUriFormats": formats, "workloadType": "initContainer"}
    return {"metadata": {"name": "default"}, "spec": spec}


def initializer(containers: list[Json], uri: str) -> Json:
    """The container that the webhook puts into the pod: as the first object says that takes such a URI."""
    for found in containers:
        spec = found["spec"]
        takes = any(
            uri.startswith(one["prefix"]) if one.get("prefix") else re.search(one["regex"], uri)
            for one in spec["supportedUriFormats"]
        )
        kind = spec.get("workloadType", "initContainer")
        if takes and kind == "initContainer" and not found.get("disabled"):
            return {"name": INITIALIZER, **copy.deepcopy(spec["container"])}
    return {"name": INITIALIZER}


def refusal(labels: dict[str, str], pod: str, spec: Json) -> str:
    """What the API server says to a pod that breaks the standard which the namespace enforces; else ''."""
    level = labels.get(ENFORCE, "privileged")
    found = [*_baseline(spec)] if level != "privileged" else []
    if level == "restricted":
        found += _restricted(spec)
    if not found:
        return ""
    standard = f"{level}:{labels.get(VERSION, 'latest')}"
    return f'pods "{pod}" is forbidden: violates PodSecurity "{standard}": {", ".join(found)}'


def _containers(spec: Json) -> list[tuple[str, Json]]:
    all_of_them = [*spec.get("initContainers", []), *spec["containers"]]
    return [(one["name"], one.get("securityContext") or {}) for one in all_of_them]


def _named(names: list[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"container{'s' if len(names) > 1 else ''} {quoted}"


def _baseline(spec: Json) -> list[str]:
    found = [
        f"host namespaces ({key}=true)" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)
    ]
    if names := [name for name, context in _containers(spec) if context.get("privileged")]:
        found.append(f"privileged ({_named(names)} must not set securityContext.privileged=true)")
    if paths := [volume["name"] for volume in spec.get("volumes", []) if "hostPath" in volume]:
        found.append(f'hostPath volumes (volume "{paths[0]}")')
    return found


def _restricted(spec: Json) -> list[str]:
    containers, pod = _containers(spec), spec.get("securityContext") or {}
    must, found = "must set securityContext", []

    def lacking(right: Any) -> list[str]:
        return [name for name, context in containers if not right(context)]

    if names := lacking(lambda context: context.get("allowPrivilegeEscalation") is False):
        found.append(
            f"allowPrivilegeEscalation != false ({_named(names)} {must}.allowPrivilegeEscalation=false)"
        )
    if names := lacking(lambda context: "ALL" in context.get("capabilities", {}).get("drop", [])):
        found.append(f'unrestricted capabilities ({_named(names)} {must}.capabilities.drop=["ALL"])')
    if names := lacking(lambda context: context.get("runAsNonRoot", pod.get("runAsNonRoot")) is True):
        found.append(f"runAsNonRoot != true (pod or {_named(names)} {must}.runAsNonRoot=true)")
    if names := lacking(lambda context: context.get("runAsUser", pod.get("runAsUser", 1)) != 0):
        found.append(f"runAsUser=0 ({_named(names)} must not set runAsUser=0)")
    kinds = ("RuntimeDefault", "Localhost")
    if names := lacking(
        lambda context: (
            (context.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") in kinds
        )
    ):
        want = 'seccompProfile.type to "RuntimeDefault" or "Localhost"'
        found.append(f"seccompProfile (pod or {_named(names)} {must}.{want})")
    return found
