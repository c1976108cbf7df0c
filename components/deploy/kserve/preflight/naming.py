"""Whether KServe can call everything after the model that it does."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from defectline.components.deploy.kserve.cluster import SERVICES, Cluster, Permission
from defectline.components.deploy.kserve.manifests import GROUP
from defectline.components.deploy.kserve.names import CONFIG, DOMAIN_TEMPLATE, fault, is_name
from defectline.components.deploy.kserve.preflight.findings import Finding

KSERVE_NAMESPACES = ("kserve", "kubeflow", "opendatahub", "redhat-ods-applications")
"""Where distributions of KServe keep its configuration."""


def naming(cluster: Cluster, name: str, mode: str) -> Iterator[Finding]:
    """What is wrong with the name, by itself and together with the namespace's."""
    found = fault(name, cluster.namespace, mode)
    if found and is_name(name, mode):
        found = fault(name, cluster.namespace, mode, _template(cluster, name))
    if found:
        yield found


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
