"""What KServe calls things after a model, and how long that may be. Pure."""

import re

from defectline.components.deploy.kserve.manifests import candidate_name
from defectline.components.deploy.kserve.preflight.findings import Finding

LONGEST = 63
"""Characters of a Kubernetes label, of a Service's name, and of each part of a host's name."""
DOMAIN_TEMPLATE = "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"
"""KServe's default for hosts."""
CONFIG = "inferenceservice-config"
"""The ConfigMap with the template that counts."""


def fault(name: str, namespace: str, mode: str, template: str = DOMAIN_TEMPLATE) -> Finding | None:
    """Why KServe cannot serve a model of that name there; None where it can."""
    if not is_name(name, mode):
        return Finding(
            f"KServe cannot serve a model called {name}.",
            f"{name!r}, {len(name)} characters",
            f"at most {longest_name(mode)} small letters, digits and hyphens, a letter first",
            "Choose another `model_name` (--name).",
        )
    part = longest_part(name, namespace, template)
    # In Knative mode hosts are Knative's, which separates the two by a dot.
    if mode == "Knative" or len(part) <= LONGEST:
        return None
    return Finding(
        f"KServe cannot make a host name for {name} in namespace {namespace}.",
        f"{part}, {len(part)} characters",
        f"at most {LONGEST}, so a name of at most {max(room(namespace), 0)} in this namespace",
        "Choose a shorter `model_name` (--name) or namespace, or have KServe separate the two by a dot "
        f"(domainTemplate in its ConfigMap {CONFIG}, which this account must be allowed to read).",
    )


def longest_name(mode: str) -> int:
    """Characters that a model's name may have, whatever its namespace is called."""
    # The label `app` of the pods; in Knative mode, the address of a revision.
    made = "latest-{}-predictor" if mode == "Knative" else "isvc.{}-predictor"
    return LONGEST - len(made.format(candidate_name("")))


def is_name(name: str, mode: str) -> bool:
    """Whether KServe can serve a model of that name."""
    return len(name) <= longest_name(mode) and bool(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name))


def longest_part(name: str, namespace: str, template: str = DOMAIN_TEMPLATE) -> str:
    """The longest part, between two dots, of a host that KServe makes for the model in Standard mode.

    "" where the template has something in it besides these two names.
    """
    values = {
        "Name": f"{candidate_name(name)}-predictor",
        "Namespace": namespace,
        "IngressDomain": "example.com",
    }
    host = re.sub(r"\{\{-?\s*\.(\w+)\s*-?\}\}", lambda found: values.get(found[1], found[0]), template)
    return "" if "{" in host else max(host.split("."), key=len)


def room(namespace: str) -> int:
    """Characters that a model's name may have in the namespace, by KServe's default template."""
    return LONGEST - len(longest_part("", namespace))
