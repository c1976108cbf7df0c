"""What KServe serves, as the cluster says."""

import json
from collections.abc import Iterable, Sequence

from defectline.pipeline.inventory import Model


def ask_cluster(models: Sequence[Model], namespace: str) -> list[Model]:
    """The models, with the namespace in `served_by` where it serves them. Raises ServingError."""
    served = {
        name: versions_in_use(namespace, name, [one.version for one in models if one.name == name])
        for name in {one.name for one in models if one.name}
    }
    return [
        one._replace(served_by=(*one.served_by, f"KServe, {namespace}"))
        if one.version in served.get(one.name, ())
        else one
        for one in models
    ]


def versions_in_use(namespace: str, name: str, versions: Iterable[str]) -> set[str]:
    """Those of `versions` that InferenceService `name` names anywhere: it serves them, or is about to, or may
    go back to them. Empty where there is no such service. Raises ServingError."""
    from defectline.components.deploy.kserve_cluster import SERVICES, Cluster

    service = json.dumps(Cluster(namespace).get(SERVICES, name) or {})
    return {version for version in versions if version in service}
