"""What KServe serves, as the cluster says."""

import json
from collections.abc import Iterable, Sequence

from defectline.pipeline.catalog.inventory import Model


def ask_cluster(models: Sequence[Model], namespace: str) -> list[Model]:
    """The models, with the namespace in `served_by` where it serves them. Raises ServingError."""
    used = versions_in_use(models, [namespace])
    return [
        one._replace(served_by=(*one.served_by, f"KServe, {namespace}"))
        if one.version in used.get(one.name, ())
        else one
        for one in models
    ]


def versions_in_use(models: Sequence[Model], namespaces: Iterable[str]) -> dict[str, set[str]]:
    """Name of each model → those of its versions that its InferenceService in a namespace names anywhere.

    It serves them, or is about to, or may go back to them. Raises ServingError.
    """
    from defectline.components.deploy.kserve.cluster import SERVICES, Cluster

    clusters = [Cluster(namespace) for namespace in namespaces]
    used = {}
    for name in sorted({one.name for one in models} - {""}):
        services = json.dumps([cluster.get(SERVICES, name) for cluster in clusters])
        used[name] = {one.version for one in models if one.name == name and one.version in services}
    return used
