"""Whether network policies let the served pods reach the port of the S3 server, where one may look."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from defectline.components.deploy.kserve.cluster import POLICIES, Cluster, Permission
from defectline.components.deploy.kserve.gateway.policies import on_port
from defectline.components.deploy.kserve.preflight.findings import Finding, unseen

POLICY = "served-store"
"""The policy of the overlays, which is made for `TLS_PORT`."""
TLS_PORT = 443


def port_of_store(namespace: str, endpoint: str) -> Iterator[Finding]:
    """What is wrong, or was not looked at, with another port than 443 in `endpoint`, the S3 server's URL.

    `namespace` is that of the served pods. Raises ServingError.
    """
    if (port := port_of(endpoint)) == TLS_PORT:
        return
    cluster, what = Cluster(namespace), f"port {port} of {endpoint}"
    permission = Permission("list", POLICIES[0], POLICIES[2])
    if not cluster.allowed(permission):
        yield unseen(f"network policy {POLICY}, which has to let served pods reach {what}", str(permission))
        return
    for policy in cluster.all_of(POLICIES):
        rules = policy["spec"].get("egress") or []
        if policy["metadata"]["name"] == POLICY and not any(on_port(rule, port) for rule in rules):
            ports = {str(one.get("port", "any")) for rule in rules for one in rule.get("ports") or []}
            yield Finding(
                f"Network policy {POLICY} in namespace {namespace} keeps the served pods from the store.",
                f"a way out to port {' or '.join(sorted(ports)) or 'none'} alone",
                what,
                "Patch it in your overlay, as docs/cluster.md has it below An S3 server on another port.",
            )


def port_of(endpoint: str) -> int:
    """The TCP port that a URL leads to; 443 for none, which is AWS."""
    parts = urlsplit(endpoint)
    if written := re.search(r":(\d+)$", parts.netloc):
        return int(written[1])
    return 80 if parts.scheme == "http" else TLS_PORT
