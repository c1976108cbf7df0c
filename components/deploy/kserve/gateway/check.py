"""Whether clients who come through the gateway get to a version that answers within the cluster."""

import re
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import ServingError
from defectline.components.common.steps import say
from defectline.components.deploy import golden
from defectline.components.deploy.golden import Address
from defectline.components.deploy.kserve.cluster import (
    AUTHORIZATIONS,
    POLICIES,
    ROUTES,
    Cluster,
    Kind,
    Permission,
)
from defectline.components.deploy.kserve.gateway.policies import (
    NAME,
    admit,
    namespaces_of_gateways,
    selecting,
    selects,
)
from defectline.components.deploy.kserve.live import LiveService
from defectline.components.deploy.kserve.manifests import HTTP_PORT, Manifest

CONNECT_S = 5.0
"""So long a connection to the gateway may take."""
BY_ITSELF = (301, 302, 303, 307, 308, 401, 403)
"""What a gateway answers of its own accord: a login, or the way to https."""
OF_ISTIO = "RBAC: access denied"
"""What a pod's own proxy says for its AuthorizationPolicies, and a gateway for its own."""


def warn_of_gateway(live: LiveService, folder: Path, bundle: Bundle, within_s: float) -> str:
    """What clients meet at the URL of a service that answers within the cluster; "" for nothing amiss.

    One golden picture of the bundle in `folder` is asked for, where the URL can be reached from here. Else,
    and where the answer is not that of the bundle for `within_s`, the policies of the namespace are looked
    at, as far as they may be. Takes CONNECT_S, `within_s` and one request at most, and raises nothing that
    the cluster may cause: the version serves.
    """
    if live.by_gateway:
        return ""  # it was checked there
    url = live.current["status"]["url"]
    try:
        got = _ask(url, live.name, folder, bundle, within_s)
        if got == "":
            say(f"{url} leads to {bundle.version}")
            return ""
        warning = _explain(live, url, got)
    except ServingError as error:
        say(f"Whether the gateway leads to {live.name} was not looked at: {error.what} {error.got}")
        return ""
    if warning:
        say(warning)
    return warning


def _ask(url: str, name: str, folder: Path, bundle: Bundle, within_s: float) -> str | None:
    """What is wrong with the answer, "" for nothing; None where there is none to be had from here."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not reachable(parts.hostname or "", port, min(CONNECT_S, within_s)):
        say(f"{url} cannot be reached from here: ask it from where the clients are")
        return None
    one = bundle.model_copy(update={"golden": bundle.golden[:1]})
    try:
        golden.check(Address(url), name, folder, one, settle_s=within_s)
    except ServingError as error:
        return error.got
    return ""


def reachable(host: str, port: int, within_s: float) -> bool:
    """Whether something listens there; not where the resolver takes longer to find the name."""
    connected = threading.Event()
    deadline = time.monotonic() + within_s

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=max(deadline - time.monotonic(), 0.1)).close()
        except OSError:
            return
        connected.set()

    # Nothing bounds the time of a resolver, so it is not waited for.
    threading.Thread(target=connect, daemon=True).start()
    return connected.wait(within_s)


def _explain(live: LiveService, url: str, got: str | None) -> str:
    """The warning, with what to do; "" where nothing shows that clients are not served.

    `got` is what was answered instead, None where nothing could be asked.
    """
    cluster, name = live.cluster, live.name
    answer = re.match(r"HTTP (\d+)", got or "")
    by_itself = answer is not None and int(answer[1]) in BY_ITSELF
    labels = live.current["spec"]["predictor"].get("labels", {})
    if got and by_itself and OF_ISTIO in got and (authorizations := _authorizations(cluster, labels)):
        return (
            f"Clients who come through the gateway are not served: {url} gave {got}. "
            f"AuthorizationPolicies {_named(authorizations)} of namespace {cluster.namespace} hold for the "
            "pods: allow the account of the gateway in one of them."
        )
    if by_itself:
        say(f"{url} gave {got}: whether it leads to the pods is not known without a login")
    policies = _policies(cluster)
    chosen = selecting(policies or [], labels)
    kept_out = _kept_out(cluster, name, chosen) if chosen else ""
    if got is None or by_itself:
        return f"Clients who come through the gateway are probably not served: {kept_out}" if kept_out else ""
    look = f"kubectl get networkpolicy,httproute -n {cluster.namespace}"
    if chosen and not kept_out:
        kept_out = f"NetworkPolicies {_named(chosen)} select the pods: do they admit the gateway?"
    elif policies is not None and not chosen:
        kept_out = f"No NetworkPolicy keeps it from the pods: look at its route (`{look}`)."
    return (
        f"Clients who come through the gateway are not served: {url} gave {got}. "
        f"{kept_out or f'See whether a NetworkPolicy keeps it from the pods (`{look}`).'}"
    )


def _kept_out(cluster: Cluster, name: str, chosen: list[Manifest]) -> str:
    """That policies which select the pods admit no gateway, and what to add; "" where one does, or no gateway
    is known."""
    may_read = cluster.allowed(Permission("get", ROUTES[0], ROUTES[2])) and _installed(cluster, ROUTES)
    route = cluster.get(ROUTES, name) if may_read else None
    namespaces = namespaces_of_gateways(route) if route else []
    if not namespaces or any(admit(chosen, _labels(cluster, n), n == cluster.namespace) for n in namespaces):
        return ""
    names = [policy["metadata"]["name"] for policy in chosen if policy["spec"].get("ingress")]
    add = f"`from` of {names[0]}" if names else "a NetworkPolicy with these pods"
    return (
        f"NetworkPolicies {_named(chosen)} of namespace {cluster.namespace} select the pods, and admit "
        f"to port {HTTP_PORT} no namespace in which the gateway may run, by its name "
        f"({' or '.join(namespaces)}). Add the one where its pods are to {add}."
    )


def _policies(cluster: Cluster) -> list[Manifest] | None:
    """The NetworkPolicies of the namespace; None where they may not be read."""
    may_list = cluster.allowed(Permission("list", POLICIES[0], POLICIES[2]))
    return cluster.all_of(POLICIES) if may_list else None


def _authorizations(cluster: Cluster, labels: dict[str, str]) -> list[Manifest]:
    """The AuthorizationPolicies of the namespace that hold for pods with these labels."""
    may_list = cluster.allowed(Permission("list", AUTHORIZATIONS[0], AUTHORIZATIONS[2]))
    if not may_list or not _installed(cluster, AUTHORIZATIONS):
        return []
    # Those with `targetRefs` are for gateways.
    return [
        one
        for one in cluster.all_of(AUTHORIZATIONS)
        if not (spec := one.get("spec") or {}).get("targetRefs") and selects(spec.get("selector"), labels)
    ]


def _installed(cluster: Cluster, kind: Kind) -> bool:
    return kind[1] in cluster.api_groups().get(kind[0], set())


def _labels(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Those of another namespace, as far as they may be read."""
    may_get = cluster.allowed(Permission("get", "", "namespaces"), namespace, namespace)
    return {**(cluster.labels(namespace) if may_get else {}), NAME: namespace}


def _named(objects: list[Manifest]) -> str:
    return ", ".join(one["metadata"]["name"] for one in objects)
