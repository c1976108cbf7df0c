"""Everything that can be known to stand in the way of a deployment before anything is written."""

from collections.abc import Iterator

from kubernetes.utils import parse_quantity

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.answers import INSTALL_KSERVE, Unavailable
from defectline.components.deploy.kserve.cluster import (
    REVISIONS,
    ROUTES,
    RUNTIMES,
    SERVICES,
    Cluster,
    Permission,
    needed_permissions,
)
from defectline.components.deploy.kserve.manifests import (
    CANDIDATE_LABEL,
    Manifest,
    canary_of,
    candidate_name,
    candidate_service,
    change_to,
    inference_service,
    is_managed,
    mode_of,
    pod_resources,
)
from defectline.components.deploy.kserve.preflight.access import access_to_the_review, access_to_the_store
from defectline.components.deploy.kserve.preflight.findings import Finding, not_managed, unseen
from defectline.components.deploy.kserve.preflight.naming import naming
from defectline.components.deploy.kserve.preflight.security import pod_security
from defectline.components.deploy.kserve.runtimes import CLEARING, runtimes_of
from defectline.components.deploy.kserve.settings import KServeSettings


def preflight(cluster: Cluster, name: str, store_uri: str, settings: KServeSettings) -> list[Finding]:
    """Everything that is wrong, or cannot be looked at, with deploying `name`; nothing is changed.

    Raises ServingError only where the cluster cannot be asked at all.
    """
    findings = [*_store(store_uri), *naming(cluster, name, settings.deployment_mode)]
    groups = cluster.api_groups()
    missing = list(_apis(cluster, groups, settings))
    findings += missing
    needed = needed_permissions(settings, cluster.inside)
    lacking = [permission for permission in needed if not cluster.allowed(permission)]
    if lacking:
        findings.append(
            Finding(
                f"This account may not deploy to namespace {cluster.namespace}.",
                f"not allowed: {', '.join(map(str, lacking))}",
                f"a role with these {len(needed)} permissions",
                "Apply manifests/base/role.yaml there, with this account in its RoleBinding.",
            )
        )
    if idle := [permission for permission in CLEARING if not cluster.allowed(permission)]:
        findings.append(
            Finding(
                "ServingRuntimes that nothing needs any more will stay.",
                f"this account may not {', '.join(map(str, idle))}",
                "a permission that is not needed to deploy",
                "Apply manifests/base/role.yaml again, or remove them by hand.",
                looked=False,
            )
        )
    findings += access_to_the_store(cluster, store_uri, settings)
    findings += access_to_the_review(cluster, settings)
    findings += _quota(cluster, settings)
    if not missing and not lacking:
        findings += pod_security(cluster, name, store_uri, settings)
        findings += _services(cluster, name, settings)
    return findings


def _store(uri: str) -> Iterator[Finding]:
    if not uri.startswith(("s3://", "gs://")):
        yield Finding(
            "KServe cannot fetch a model from this store.",
            uri,
            "an s3:// or gs:// store, which the cluster can read",
            "Run with --store s3://bucket/prefix or gs://bucket/prefix.",
        )


def _apis(cluster: Cluster, groups: dict[str, set[str]], settings: KServeSettings) -> Iterator[Finding]:
    """What must be installed in the cluster for these settings."""
    for group, version, plural in (SERVICES, RUNTIMES):
        versions = groups.get(group, set())
        if version not in versions or plural not in cluster.resources(group, version):
            has = f"{group} with {', '.join(sorted(versions))}" if versions else f"no API group {group}"
            yield Finding(
                "KServe is not installed in this cluster.",
                f"{has}, without {plural} in {version}",
                f"{plural}.{group}/{version}",
                INSTALL_KSERVE,
            )
            return
    if settings.deployment_mode == "Knative" and REVISIONS[1] not in groups.get(REVISIONS[0], set()):
        yield Finding(
            "This cluster has no Knative mode.",
            f"no API group {REVISIONS[0]}",
            "Knative Serving, which `deployment_mode` Knative rests on",
            "Set `deployment_mode` to Standard, or install Knative Serving.",
        )
    canary_by_gateway = settings.strategy == "canary" and settings.deployment_mode == "Standard"
    if canary_by_gateway and ROUTES[1] not in groups.get(ROUTES[0], set()):
        yield Finding(
            "This cluster cannot share out requests between two versions.",
            f"no API group {ROUTES[0]}",
            "the Gateway API, and KServe 0.21 or later with enableGatewayApi",
            "Set `strategy` to candidate.",
        )


def _quota(cluster: Cluster, settings: KServeSettings) -> Iterator[Finding]:
    """Whether one more pod fits: at no time does a rollout need more than that."""
    if not cluster.allowed(Permission("list", "", "resourcequotas")):
        yield unseen("the namespace's quota", "list resourcequotas")
        return
    one = pod_resources(settings)
    needs = {"pods": "1", **one} | {
        f"{side}.{key}": one[key] for side in ("requests", "limits") for key in one
    }
    for quota in cluster.quotas():
        status = quota.get("status", {})
        for key, hard in (status.get("hard") or {}).items():
            if key not in needs:
                continue
            left = parse_quantity(hard) - parse_quantity((status.get("used") or {}).get(key, "0"))
            if left < parse_quantity(needs[key]):
                yield Finding(
                    f"Quota {quota['metadata']['name']} has no room for one more pod.",
                    f"{key}: {status.get('used', {}).get(key, '0')} used of {hard}",
                    f"{needs[key]} free, for the pod of the new version, while the previous pods still run",
                    "Raise the quota, or lower `cpu`, `memory`, `gpu` or the number of pods.",
                )


def _services(cluster: Cluster, name: str, settings: KServeSettings) -> Iterator[Finding]:
    """What the services of that name, and the API server's own checks, have against it."""
    version, uri = "v0", "s3://store/serving/"
    service = inference_service(name, version, uri, settings)
    candidate = candidate_service(name, version, uri, settings)
    current = cluster.get(SERVICES, name)
    if current and not settings.adopt and not is_managed(current):
        yield not_managed(current, cluster.namespace)
    present = cluster.get(SERVICES, candidate_name(name))
    if present and present["metadata"].get("labels", {}).get(CANDIDATE_LABEL) != name:
        yield Finding(
            f"The name {candidate_name(name)}, which the check before a rollout needs, is taken.",
            f"an InferenceService without the label {CANDIDATE_LABEL}={name}",
            "a free name",
            "Choose another `model_name` (--name), or rename that service.",
        )
    mode = (current and mode_of(current)) or settings.deployment_mode
    if mode != settings.deployment_mode:
        yield Finding(
            f"The mode of InferenceService {name} cannot change.",
            f"it runs in {mode} mode, `deployment_mode` is {settings.deployment_mode}",
            f"`deployment_mode` {mode}",
            f"Set `deployment_mode` to {mode} (compile --mode {mode}), or choose another name.",
        )
        return
    tries: list[Manifest] = [candidate] if current else [candidate, service]
    try:
        for runtime in runtimes_of(settings):
            if cluster.get(RUNTIMES, runtime["metadata"]["name"]) is None:
                cluster.create(RUNTIMES, runtime, dry_run=True)
        for manifest in tries:
            if not (manifest is candidate and present):
                cluster.create(SERVICES, manifest, dry_run=True)
        if current:
            cluster.patch(SERVICES, current, change_to(current, service), dry_run=True)
    except Unavailable:
        raise
    except ServingError as error:
        yield Finding(error.what, error.got, error.expected, error.fix)
        return
    if settings.strategy == "canary" and mode == "Standard" and current:
        try:
            cluster.patch(SERVICES, current, {"spec": {"canary": canary_of(service, 0)}}, dry_run=True)
        except Unavailable:
            raise
        except ServingError as error:
            fix = "Set `strategy` to candidate, or update KServe to 0.21 or later."
            yield Finding("This KServe takes no canary.", f"{error.what} {error.got}", "`spec.canary`", fix)
