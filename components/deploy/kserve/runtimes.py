"""Remove the ServingRuntimes that nothing needs any more: every image and size of pods leaves one behind."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from defectline.components.common import layout
from defectline.components.common.errors import DefectlineError
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.deploy.kserve.cluster import RUNTIMES, SERVICES, Cluster, Permission
from defectline.components.deploy.kserve.history import History
from defectline.components.deploy.kserve.manifests import (
    GROUP,
    Manifest,
    candidate_settings,
    is_managed,
    serving_runtime,
)
from defectline.components.deploy.kserve.settings import KServeSettings

KEPT = timedelta(days=1)
"""A younger one may be of a deployment of another model that is under way."""
CLEARING = (
    Permission("list", GROUP, "inferenceservices"),
    Permission("list", GROUP, "servingruntimes"),
    Permission("delete", GROUP, "servingruntimes"),
)
"""What removing them takes; a deployment does without."""


def remove_unneeded(cluster: Cluster, store: Storage) -> None:
    """Remove old runtimes of defectline that no service and no version of any model's history names.

    Where it cannot be done, that is said, and nothing else happens.
    """
    try:
        if not all(map(cluster.allowed, CLEARING)):
            return
        living = {name for service in cluster.all_of(SERVICES) for name in _named(service)}
        before = datetime.now(UTC) - KEPT
        spare = [
            runtime
            for runtime in cluster.all_of(RUNTIMES)
            if is_managed(runtime)
            and runtime["metadata"]["name"] not in living
            and datetime.fromisoformat(runtime["metadata"]["creationTimestamp"]) < before
        ]
        # Reading the history takes a request a version: only where there is something to remove.
        needed = set(_of_history(store, cluster.namespace)) if spare else set()
        for runtime in spare:
            name = runtime["metadata"]["name"]
            if name not in needed:
                cluster.delete(RUNTIMES, runtime)
                say(f"ServingRuntime {name}, which nothing needs any more, was removed")
    except DefectlineError as error:
        say(f"Old ServingRuntimes stay: {error.what} {error.got}")


def runtimes_of(settings: KServeSettings) -> list[Manifest]:
    """Those that a deployment with these settings needs."""
    return [serving_runtime(one) for one in (candidate_settings(settings), settings)]


def _named(service: Manifest) -> Iterator[str]:
    """The runtimes that a service uses, with those of its canaries."""
    spec = service["spec"]
    for one in (spec, *(spec.get("canary") or [])):
        if name := one.get("predictor", {}).get("model", {}).get("runtime"):
            yield name


def _of_history(store: Storage, namespace: str) -> Iterator[str]:
    """The runtimes of every version that any model of the store was deployed as in the namespace."""
    for found in store.list(layout.SERVING):
        _, name, kind, *rest = found.key.split("/")
        if kind == "deployed" and len(rest) == 2 and rest[0] == namespace:
            deployed = History(store, namespace, name).deployed(layout.stem(found.key))
            for runtime in runtimes_of(deployed.settings) if deployed else []:
                yield runtime["metadata"]["name"]
