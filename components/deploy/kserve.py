"""Deploy a bundle on KServe, and put the former one back whenever anything goes wrong.

publish → check → write → wait for the pods → ask for the golden pictures; else restore.
"""

import json
import tempfile
from pathlib import Path

from defectline.components.common.bundle import Bundle, copy_served, publish_folder
from defectline.components.common.errors import DefectlineError, ServingError
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.deploy import golden
from defectline.components.deploy.kserve_cluster import (
    KNATIVE_RIGHTS,
    RUNTIMES,
    SERVICES,
    STANDARD_RIGHTS,
    Cluster,
    Unavailable,
    conflict,
    same_spec,
)
from defectline.components.deploy.kserve_manifests import (
    MANAGED_BY,
    OURS,
    SPEC_LABEL,
    VERSION_LABEL,
    KServeSettings,
    Manifest,
    inference_service,
    merge_patch,
    serving_runtime,
    version_of,
)
from defectline.components.deploy.kserve_rollout import wait_until_gone, wait_until_rolled_out

__all__ = ["KServeSettings", "deploy_kserve", "find_champion"]


def deploy_kserve(
    bundle_folder: Path,
    bundle: Bundle,
    store: Storage,
    name: str,
    settings: KServeSettings,
    poll_s: float = 2.0,
) -> str:
    """Serve the sealed bundle as InferenceService `name`, and return the service's URL.

    A new service is created, one of ours is updated pod by pod. Raises ServingError, or Conflict where
    somebody else deploys at the same time; what served before then serves again, and the error says so.
    A deployment that is killed half-way is made good by the next one.
    """
    _check_store(store)
    cluster = Cluster(settings.namespace)
    cluster.check_rights(KNATIVE_RIGHTS if settings.deployment_mode == "Knative" else STANDARD_RIGHTS)
    current = _get_ours(cluster, name)
    uri = publish(bundle_folder, bundle, store, name)
    service = inference_service(name, bundle.version, uri, settings)
    former = _former_spec(store, name, current)

    written = _write(cluster, store, current, former, service, serving_runtime(settings))
    try:
        live = wait_until_rolled_out(cluster, written, settings.timeout_s, poll_s)
        _ask(cluster, live, bundle_folder, bundle, settings)
    except BaseException as error:
        # Also an interrupt must not leave a version behind that nobody has checked.
        state = _restore(cluster, store, written, former, settings.timeout_s, poll_s)
        if not isinstance(error, DefectlineError):
            say(state)
            raise
        raise ServingError(
            f"{bundle.version} was not deployed: {state}",
            got=f"{error.what} {error.got}",
            expected=error.expected,
            fix=error.fix,
        ) from error
    store.delete(_record_key(name, written))
    url = settings.url or live["status"]["url"]
    say(f"{name} serves {bundle.version} at {url}")
    return url


def find_champion(name: str, settings: KServeSettings) -> str | None:
    """The version that InferenceService `name` serves, or None where there is no such service."""
    service = _get_ours(Cluster(settings.namespace), name)
    return None if service is None else service["spec"]["predictor"].get("labels", {}).get(VERSION_LABEL)


def publish(bundle_folder: Path, bundle: Bundle, store: Storage, name: str) -> str:
    """Upload what the predictor reads to `serving/<name>/<version>/`, and return its URI.

    SHA256SUMS comes last, so a folder that has it is complete; such a one is used as it is. Raises
    StoreError if it holds something else.
    """
    prefix = f"serving/{name}/{bundle.version}"
    with tempfile.TemporaryDirectory() as temporary:
        copy_served(bundle_folder, Path(temporary))
        publish_folder(Path(temporary), store, prefix)
    return f"{store.url(prefix)}/"


def _check_store(store: Storage) -> None:
    if not store.uri.startswith(("s3://", "gs://")):
        raise ServingError(
            "KServe cannot fetch a model from this store.",
            got=store.uri,
            expected="an s3:// or gs:// store, which the cluster can read",
            fix="Run with --store s3://bucket/prefix or gs://bucket/prefix.",
        )


def _get_ours(cluster: Cluster, name: str) -> Manifest | None:
    """The InferenceService `name`, if there is one. Raises ServingError if somebody else made it."""
    service = cluster.get(SERVICES, name)
    if service and service["metadata"].get("labels", {}).get(MANAGED_BY) != OURS:
        raise ServingError(
            f"InferenceService {name} in namespace {cluster.namespace} is not ours.",
            got=f"no label {MANAGED_BY}={OURS}",
            expected=f"a name that is free, or a service that {OURS} made",
            fix="Choose another name or namespace, or delete that service if nobody needs it.",
        )
    return service


def _write(
    cluster: Cluster,
    store: Storage,
    current: Manifest | None,
    former: Manifest | None,
    service: Manifest,
    runtime: Manifest,
) -> Manifest:
    """Create or change the service, once the API server has found nothing wrong with it."""
    change = {
        "metadata": {key: service["metadata"][key] for key in ("labels", "annotations")},
        "spec": service["spec"],
    }
    if current is None:
        cluster.create(SERVICES, service, dry_run=True)
    else:
        cluster.patch(SERVICES, current, change, dry_run=True)
    if cluster.get(RUNTIMES, runtime["metadata"]["name"]) is None:
        cluster.create(RUNTIMES, runtime)
    if current is not None:
        _record(store, current, former, service)
    try:
        written = cluster.patch(SERVICES, current, change) if current else cluster.create(SERVICES, service)
    except Unavailable:
        # The answer was lost, but perhaps not the request.
        found = cluster.get(SERVICES, service["metadata"]["name"])
        if found is None or not _carries(found["spec"], service["spec"]):
            raise
        written = found
    if current is None:
        _record(store, written, former, service)
    return written


def _ask(
    cluster: Cluster, live: Manifest, bundle_folder: Path, bundle: Bundle, settings: KServeSettings
) -> None:
    status, name = live["status"], live["metadata"]["name"]
    inner = status.get("address", {}).get("url") if cluster.inside else None
    url = settings.url or inner or status["url"]
    headers = {"Host": settings.host_header} if settings.host_header else None
    golden.wait_until_ready(url, name, golden.SETTLE_S, headers=headers)
    golden.ask(url, name, bundle_folder, bundle, headers=headers)
    say(f"{name} {bundle.version}: {len(bundle.golden)} golden pictures answered as sealed")


def _restore(
    cluster: Cluster,
    store: Storage,
    written: Manifest,
    former: Manifest | None,
    timeout_s: float,
    poll_s: float,
) -> str:
    """Bring back what served before `written`, and say in a sentence what serves now."""
    name = written["metadata"]["name"]
    say(f"{name} {version_of(written['spec'])} failed: going back")
    try:
        current = cluster.get(SERVICES, name)
        if current is None or not same_spec(current, written):
            raise conflict(SERVICES, name)
        if former is None:
            cluster.delete(SERVICES, current)
            wait_until_gone(cluster, name, timeout_s, poll_s)
        else:
            restored = cluster.patch(SERVICES, current, {"spec": merge_patch(current["spec"], former)})
            wait_until_rolled_out(cluster, restored, timeout_s, poll_s)
        store.delete(_record_key(name, written))
    except DefectlineError as error:
        return f"going back failed as well. {error.what} {error.got}. {error.fix}"
    return "nothing serves, as before." if former is None else f"{version_of(former)} still serves."


def _carries(spec: Manifest, wanted: Manifest) -> bool:
    """Whether `spec` is the one that was written as `wanted`."""
    labels = spec["predictor"].get("labels", {})
    return labels.get(SPEC_LABEL) == wanted["predictor"]["labels"][SPEC_LABEL]


# While a rollout is under way, the store holds the spec to go back to, in case this process is killed.


def _record_key(name: str, service: Manifest) -> str:
    return f"serving/{name}/unfinished/{service['metadata']['uid']}.json"


def _record(store: Storage, current: Manifest, former: Manifest | None, service: Manifest) -> None:
    record = {"former": former, "writing": service["spec"]}
    store.write(_record_key(service["metadata"]["name"], current), json.dumps(record).encode())


def _former_spec(store: Storage, name: str, current: Manifest | None) -> Manifest | None:
    """The spec that served last: the one in force, unless the rollout that wrote it never ended."""
    if current is None:
        return None
    found = store.read_versioned(_record_key(name, current))
    record = json.loads(found[0]) if found else None
    return record["former"] if record and _carries(current["spec"], record["writing"]) else current["spec"]
