"""What NetworkPolicies let through to the served pods, and from them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from defectline.components.deploy.kserve.manifests import HTTP_PORT, Manifest

GATEWAYS = {
    "gateway.envoyproxy.io": ("envoy-gateway-system",),
    "istio.io": ("istio-system", "istio-ingress"),
}
"""Where the pods of a gateway may run besides its own namespace, by the domain of its controller."""
NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes gives to each namespace."""


def namespaces_of_gateways(route: Manifest) -> list[str]:
    """Where the pods may run of the gateways that took the HTTPRoute; of controllers known here only."""
    found = set()
    for parent in route.get("status", {}).get("parents", []):
        if known := GATEWAYS.get(parent.get("controllerName", "").partition("/")[0]):
            own = parent["parentRef"].get("namespace") or route["metadata"].get("namespace", "")
            found |= {own, *known}
    return sorted(found)


def selecting(policies: Iterable[Manifest], labels: Mapping[str, str]) -> list[Manifest]:
    """Those that say who may ask pods with these labels."""
    return [
        policy
        for policy in policies
        if "Ingress" in policy["spec"].get("policyTypes", ["Ingress"])
        and selects(policy["spec"].get("podSelector"), labels)
    ]


def admit(policies: Iterable[Manifest], namespace: Mapping[str, str], same: bool) -> bool:
    """Whether policies that select the pods let in, on their port, what a namespace with these labels runs.

    `same` is whether it is the pods' own. Of what runs there nothing is known: what may be let in counts.
    """
    rules = [rule for policy in policies for rule in policy["spec"].get("ingress") or []]
    return any(on_port(rule, HTTP_PORT) and _from(rule, namespace, same) for rule in rules)


def on_port(rule: Manifest, port: int) -> bool:
    """Whether a rule of a policy is about this TCP port too."""
    return not rule.get("ports") or any(_is_port(one, port) for one in rule["ports"])


def _is_port(one: Manifest, port: int) -> bool:
    if one.get("protocol", "TCP") != "TCP":
        return False
    first: int | str = one.get("port", port)
    if isinstance(first, str):
        return True  # a name may be that of any port
    last: int = one.get("endPort", first)
    return first <= port <= last


def _from(rule: Manifest, namespace: Mapping[str, str], same: bool) -> bool:
    return not rule.get("from") or any(
        # Which addresses pods have is not known.
        "ipBlock" in peer
        or (selects(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else same)
        for peer in rule["from"]
    )


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes what has these labels."""
    if any(labels.get(key) != value for key, value in ((selector or {}).get("matchLabels") or {}).items()):
        return False
    for one in (selector or {}).get("matchExpressions") or []:
        key, values = one["key"], one.get("values") or []
        fits = {
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
        }
        if not fits[one["operator"]]:
            return False
    return True
