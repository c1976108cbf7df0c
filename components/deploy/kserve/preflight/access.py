"""Whether the pods can get at the store: to fetch the model, and to keep frames for review."""

import os
from collections.abc import Iterator

from defectline.components.deploy.kserve.cluster import Cluster, Permission
from defectline.components.deploy.kserve.manifests import GROUP, Manifest
from defectline.components.deploy.kserve.preflight.findings import Finding, unseen
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


def access_to_the_store(
    cluster: Cluster, store_uri: str, settings: KServeSettings, endpoint: str | None = None
) -> Iterator[Finding]:
    """Whether the service account's secrets are such that KServe can use them.

    `endpoint` is the URL of the S3 server as the deploy step calls it, None for that of this process.
    """
    own = _own_endpoint() if endpoint is None else endpoint
    name = settings.service_account or "default"
    if not cluster.allowed(Permission("get", "", "serviceaccounts"), name):
        yield unseen(f"service account {name}", f"get serviceaccounts {name}")
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
    faults, hidden = [], []
    for secret_name in [secret["name"] for secret in account.get("secrets") or []]:
        if not cluster.allowed(Permission("get", "", "secrets"), secret_name):
            hidden.append(unseen(f"secret {secret_name}", f"get secrets {secret_name}"))
            continue
        found = _faults_of_secret(cluster.secret(secret_name), secret_name, store_uri, own)
        if not found:
            return
        faults.append(found[0])
    if hidden:
        yield from hidden
    elif faults:
        yield from faults
    else:
        yield Finding(
            f"Service account {name} has no secret.",
            "no entry in its `secrets`, so KServe would fetch the model without keys",
            "a secret that may read the store",
            "Apply one like manifests/secrets/s3.example.yaml, and name it in the service account.",
        )


def _faults_of_secret(secret: Manifest | None, name: str, store_uri: str, own: str) -> list[Finding]:
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


def access_to_the_review(
    cluster: Cluster, settings: KServeSettings, endpoint: str | None = None
) -> Iterator[Finding]:
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
        yield unseen(f"secret {name}", f"get secrets {name}")
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
    elif (
        on_s3
        and (own := _own_endpoint() if endpoint is None else endpoint)
        and REVIEW_S3_PLACE[0] not in secret["data"]
    ):
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
