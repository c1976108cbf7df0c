"""What a network plugin that enforces NetworkPolicies lets through to the served pods."""

from collections.abc import Iterable, Mapping

from cluster.schemas import Json

GATEWAY_PODS = "envoy-gateway-system"
"""The namespace in which the pods of the gateway run; the Gateway itself is in `kserve`."""
PORT = 8080


def lets_in(policies: Iterable[Json], pod: Mapping[str, str], namespace: Mapping[str, str]) -> bool:
    """Whether pods of a namespace with these labels reach a pod with these; peers by namespace alone."""
    specs = [one["spec"] for one in policies]
    isolating = [
        spec for spec in specs if "Ingress" in spec["policyTypes"] and _fits(spec["podSelector"], pod)
    ]
    if not isolating:
        return True
    for rule in (rule for spec in isolating for rule in spec.get("ingress", [])):
        on_port = any(one["port"] == PORT for one in rule.get("ports", [{"port": PORT}]))
        peers = rule.get("from", [{"namespaceSelector": {}}])
        if on_port and any(
            _fits(peer["namespaceSelector"], namespace)
            for peer in peers
            if "namespaceSelector" in peer and "podSelector" not in peer
        ):
            return True
    return False


def _fits(selector: Json, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    for one in selector.get("matchExpressions", []):
        there = one["key"] in labels
        fits = {"Exists": there, "In": labels.get(one["key"]) in one.get("values", [])}
        if not fits[one["operator"]]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())
