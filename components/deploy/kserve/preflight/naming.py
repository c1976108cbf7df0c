"""Whether KServe can call everything after the model that it does."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from defectline.components.deploy.kserve.cluster import SERVICES, Cluster, Permission
from defectline.components.deploy.kserve.manifests import GROUP
from defectline.components.deploy.kserve.names import (
    DOMAIN_TEMPLATE,
    LONGEST,
    is_name,
    longest_name,
    longest_part,
    room,
)
from defectline.components.deploy.kserve.preflight.findings import Finding
from defectline.components.deploy.kserve.settings import KServeSettings

CONFIG = "inferenceservice-config"
KSERVE_NAMESPACES = ("kserve", "kubeflow", "opendatahub", "redhat-ods-applications")
"""Where distributions of KServe keep its configuration."""


def naming(cluster: Cluster, name: str, settings: KServeSettings) -> Iterator[Finding]:
    """What is wrong with the name, by itself and together with the namespace's."""
    mode = settings.deployment_mode
    if not is_name(name, mode):
        yield Finding(
            f"KServe cannot serve a model called {name}.",
            f"{name!r}, {len(name)} characters",
            f"at most {longest_name(mode)} small letters, digits and hyphens, a letter first",
            "Choose another `model_name` (--name).",
        )
        return
    # In Knative mode hosts are Knative's, which separates the two by a dot.
    if mode == "Knative" or len(longest_part(name, cluster.namespace)) <= LONGEST:
        return
    part = longest_part(name, cluster.namespace, _template(cluster, name))
    if len(part) > LONGEST:
        yield Finding(
            f"KServe cannot make a host name for {name} in namespace {cluster.namespace}.",
            f"{part}, {len(part)} characters",
            f"at most {LONGEST}, so a name of at most {max(room(cluster.namespace), 0)} in this namespace",
            "Choose a shorter `model_name` (--name) or namespace, or have KServe separate the two by a dot "
            f"(domainTemplate in its ConfigMap {CONFIG}, which this account must be allowed to read).",
        )


def _template(cluster: Cluster, name: str) -> str:
    """KServe's template for hosts, as far as it can be seen."""
    for namespace in KSERVE_NAMESPACES:
        if cluster.allowed(Permission("get", "", "configmaps"), CONFIG, namespace):
            found = cluster.config_map(CONFIG, namespace)
            if found and (template := json.loads(found.get("ingress", "{}")).get("domainTemplate")):
                return template
    if cluster.allowed(Permission("get", GROUP, SERVICES[2])) and (service := cluster.get(SERVICES, name)):
        host = urlsplit(service.get("status", {}).get("url", "")).netloc
        if host.startswith(f"{name}."):
            return DOMAIN_TEMPLATE.replace("-", ".")
    return DOMAIN_TEMPLATE
