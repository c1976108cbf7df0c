"""Everything that can be known to stand in the way of a deployment before anything is written."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kubernetes.utils import parse_quantity

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import (
    REVISIONS,
    ROUTES,
    RUNTIMES,
    SERVICES,
    Cluster,
    Permission,
    Unavailable,
    needed_permissions,
)
from defectline.components.deploy.kserve.manifests import (
    CANDIDATE_LABEL,
    GROUP,
    MANAGED_BY,
    MANAGER,
    MAX_NAME,
    Manifest,
    canary_of,
    candidate_name,
    candidate_service,
    candidate_settings,
    change_to,
    inference_service,
    is_managed,
    mode_of,
    pod_resources,
    serving_runtime,
)
from defectline.components.deploy.kserve.settings import (
    REVIEW_GCS_KEY,
    REVIEW_S3_KEYS,
    REVIEW_S3_PLACE,
    KServeSettings,
)

S3_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
GCS_KEY = "gcloud-application-credentials.json"
OWN_IDENTITY = ("eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account")
"""Annotations of a service account that has rights in the cloud itself, so needs no secret."""


class Finding(NamedTuple):
    """One thing that is wrong, or that could not be looked at, which stops nothing."""

    what: str
    got: str
    expected: str
    fix: str
    looked: bool = True


def preflight(cluster: Cluster, name: str, store_uri: str, settings: KServeSettings) -> list[Finding]:
    """Everything that is wrong, or cannot be looked at, with deploying `name`; nothing is changed.

    Raises ServingError only where the cluster cannot be asked at all.
    """
    findings = [*_store(store_uri), *_name(name)]
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
    findings += _access_to_the_store(cluster, store_uri, settings)
    findings += _access_to_the_review(cluster, settings)
    findings += _quota(cluster, settings)
    if not missing and not lacking:
        findings += _services(cluster, name, settings)
    return findings


def check(findings: Sequence[Finding], name: str, namespace: str) -> None:
    """Raise one ServingError that holds every finding that is wrong, each with its fix."""
    wrong = [finding for finding in findings if finding.looked]
    if len(wrong) == 1:
        what, got, expected, fix, _ = wrong[0]
        raise ServingError(what, got=got, expected=expected, fix=fix)
    if wrong:
        raise ServingError(
            f"{len(wrong)} things stand in the way of deploying {name} to namespace {namespace}.",
            got=_numbered([f"{finding.what} {finding.got}" for finding in wrong]),
            expected=_numbered([finding.expected for finding in wrong]),
            fix=_numbered([finding.fix for finding in wrong]),
        )


def _numbered(texts: list[str]) -> str:
    return "".join(f"\n    ({number}) {text}" for number, text in enumerate(texts, 1))


def _store(uri: str) -> Iterator[Finding]:
    if not uri.startswith(("s3://", "gs://")):
        yield Finding(
            "KServe cannot fetch a model from this store.",
            uri,
            "an s3:// or gs:// store, which the cluster can read",
            "Run with --store s3://bucket/prefix or gs://bucket/prefix.",
        )


def _name(name: str) -> Iterator[Finding]:
    if len(name) > MAX_NAME or not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield Finding(
            f"KServe cannot serve a model called {name}.",
            f"{name!r}, {len(name)} characters",
            f"at most {MAX_NAME} small letters, digits and hyphens, a letter first",
            "Choose another `model_name` (--name).",
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
                "Install KServe (0.17 or later), then deploy again.",
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


def _access_to_the_store(cluster: Cluster, store_uri: str, settings: KServeSettings) -> Iterator[Finding]:
    """Whether the service account's secrets are such that KServe can use them."""
    name = settings.service_account or "default"
    if not cluster.allowed(Permission("get", "", "serviceaccounts"), name):
        yield _unseen(f"service account {name}", f"get serviceaccounts {name}")
        return
    account = cluster.service_account(name)
    if account is None:
        yield Finding(
            f"Service account {name} is missing in namespace {cluster.namespace}.",
            "no such service account, so KServe would fetch the model without keys",
            f"service account {name}, with a secret that may read the store",
            "Apply manifests/base there, or correct `service_account`.",
        )
        return
    if _has_own_identity(account):
        return
    faults, unseen = [], []
    for secret_name in [secret["name"] for secret in account.get("secrets") or []]:
        if not cluster.allowed(Permission("get", "", "secrets"), secret_name):
            unseen.append(_unseen(f"secret {secret_name}", f"get secrets {secret_name}"))
            continue
        found = _faults_of_secret(cluster.secret(secret_name), secret_name, store_uri)
        if not found:
            return
        faults.append(found[0])
    if unseen:
        yield from unseen
    elif faults:
        yield from faults
    else:
        yield Finding(
            f"Service account {name} has no secret.",
            "no entry in its `secrets`, so KServe would fetch the model without keys",
            "a secret that may read the store",
            "Apply one like manifests/secrets/s3.example.yaml, and name it in the service account.",
        )


def _faults_of_secret(secret: Manifest | None, name: str, store_uri: str) -> list[Finding]:
    if secret is None:
        fix = "Create it, like manifests/secrets/s3.example.yaml."
        return [Finding(f"Secret {name} is missing.", "no such secret", "the secret of the account", fix)]
    keys, annotations = set(secret["data"]), secret["metadata"].get("annotations", {})
    wanted = S3_KEYS if store_uri.startswith("s3://") else {GCS_KEY}
    what, change = f"KServe cannot use secret {name}.", f"Change secret {name}"
    if not wanted <= keys:
        got = f"the keys {', '.join(sorted(keys)) or 'of an empty secret'}"
        return [Finding(what, got, f"the keys {' and '.join(sorted(wanted))}", f"{change}: rename its keys.")]
    if not store_uri.startswith("s3://"):
        return []
    faults = []
    for key in annotations:
        group, _, rest = key.partition("/")
        if rest.startswith("s3-") and group != GROUP:
            fix = f"{change}: rename the annotation."
            faults.append(Finding(what, f"annotation {key}, which nothing reads", f"{GROUP}/{rest}", fix))
    endpoint = annotations.get(f"{GROUP}/s3-endpoint", "")
    own = _own_endpoint()
    if "/" in endpoint:
        got, expected = f"annotation {GROUP}/s3-endpoint: {endpoint}", "host:port, without a scheme"
        faults.append(Finding(what, got, expected, f"{change}: write the endpoint so."))
    elif own and not endpoint:
        got = f"no annotation {GROUP}/s3-endpoint, so KServe asks AWS"
        expected = f"the endpoint that this step uses, {own}, or how the pods call it"
        faults.append(Finding(what, got, expected, f"{change}: add the annotation, host:port only."))
    if own.startswith("http://") and annotations.get(f"{GROUP}/s3-usehttps", "1") != "0":
        got = f"annotation {GROUP}/s3-usehttps: {annotations.get(f'{GROUP}/s3-usehttps', 'none, so 1')}"
        expected = f'"0", as this step reaches the store by {own}'
        faults.append(Finding(what, got, expected, f'{change}: set it to "0".'))
    return faults


def _access_to_the_review(cluster: Cluster, settings: KServeSettings) -> Iterator[Finding]:
    """Whether the pods have keys to write frames with; what these allow, only the pods can try."""
    if not settings.review:
        return
    on_s3 = settings.review.startswith("s3://")
    template = f"manifests/secrets/{'s3' if on_s3 else 'gcs'}.example.yaml"
    name = settings.review_secret
    if not name:
        account = settings.service_account or "default"
        # Where it is missing, or may not be read, that was found before.
        may_look = cluster.allowed(Permission("get", "", "serviceaccounts"), account)
        found = cluster.service_account(account) if may_look else None
        if found and not _has_own_identity(found):
            yield Finding(
                f"Nothing lets the pods write to {settings.review}.",
                f"no `review_secret`, and service account {account} stands for no account of the cloud",
                "rights to write frames for review, in addition to those to read the model",
                f"Set `review_secret` to one like {template}, or `review` to nothing.",
            )
        return
    if not cluster.allowed(Permission("get", "", "secrets"), name):
        yield _unseen(f"secret {name}", f"get secrets {name}")
        return
    secret = cluster.secret(name)
    wanted = set(REVIEW_S3_KEYS) if on_s3 else {REVIEW_GCS_KEY}
    if secret is None:
        yield Finding(
            f"Secret {name} is missing.", "no such secret", "`review_secret`", f"Create it, like {template}."
        )
    elif not wanted <= set(secret["data"]):
        yield Finding(
            f"The pods cannot write to {settings.review} by secret {name}.",
            f"the keys {', '.join(sorted(secret['data'])) or 'of an empty secret'}",
            f"the keys {' and '.join(sorted(wanted))}",
            f"Change secret {name}: rename its keys.",
        )
    elif on_s3 and (own := _own_endpoint()) and REVIEW_S3_PLACE[0] not in secret["data"]:
        yield Finding(
            f"The pods would not write to {settings.review} where this step reads and writes.",
            f"secret {name} without {REVIEW_S3_PLACE[0]}, so they ask AWS",
            f"the endpoint that this step uses, {own}, or how the pods call it",
            f"Change secret {name}: add the key {REVIEW_S3_PLACE[0]}, a URL.",
        )


def _own_endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _has_own_identity(account: Manifest) -> bool:
    return any(key in account["metadata"].get("annotations", {}) for key in OWN_IDENTITY)


def _quota(cluster: Cluster, settings: KServeSettings) -> Iterator[Finding]:
    """Whether one more pod fits: at no time does a rollout need more than that."""
    if not cluster.allowed(Permission("list", "", "resourcequotas")):
        yield _unseen("the namespace's quota", "list resourcequotas")
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
        for runtime in map(serving_runtime, (candidate_settings(settings), settings)):
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


def not_managed(service: Manifest, namespace: str) -> Finding:
    return Finding(
        f"InferenceService {service['metadata']['name']} in namespace {namespace} was not made by {MANAGER}.",
        f"no label {MANAGED_BY}={MANAGER}",
        f"a name that is free, or a service that {MANAGER} made",
        "Choose another name or namespace; or set `adopt` (--adopt) to take that service over.",
    )


def _unseen(what: str, permission: str) -> Finding:
    return Finding(
        f"{what[:1].upper()}{what[1:]} was not looked at.",
        f"this account may not {permission}",
        "a permission that is not needed to deploy",
        "Nothing to do, unless the model cannot be fetched or no pod starts.",
        looked=False,
    )
