"""Whether the secrets that pods name are there with their keys, where the account may look."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from defectline.components.common.settings import checked
from defectline.components.deploy.kserve.cluster import Cluster, Permission
from defectline.components.deploy.kserve.preflight.access import access_to_the_review, access_to_the_store
from defectline.components.deploy.kserve.preflight.findings import Finding, unseen
from defectline.components.deploy.kserve.settings import KServeSettings


def secrets_of_steps(needed: Mapping[str, Collection[str]], namespace: str) -> Iterator[Finding]:
    """What is wrong with these secrets, name → keys, or was not looked at. Raises ServingError."""
    cluster = Cluster(namespace)
    for name, keys in needed.items():
        if not cluster.allowed(Permission("get", "", "secrets"), name):
            yield unseen(f"secret {name} in namespace {namespace}", f"get secrets {name}")
            continue
        secret = cluster.secret(name)
        if secret is None:
            yield Finding(
                f"Secret {name} is missing in namespace {namespace}.",
                "no such secret, so steps would not start or not pull their images",
                f"a secret with {' and '.join(sorted(keys)) or 'the login of the registry'}",
                "Create it there, or compile the pipeline with the name of another.",
            )
        elif lacking := sorted({*keys} - {*secret["data"]}):
            yield Finding(
                f"Secret {name} in namespace {namespace} lacks {' and '.join(lacking)}.",
                f"the keys {', '.join(sorted(secret['data'])) or 'of an empty secret'}",
                f"the keys {' and '.join(sorted(keys))}",
                f"Change secret {name}: add or rename its keys.",
            )


def secrets_of_endpoint(kserve: dict[str, Any], store: str, endpoint: str) -> Iterator[Finding]:
    """The same for the served pods, which fetch the model from `store`, s3:// or gs://.

    `kserve` holds fields of KServeSettings; `endpoint` is the URL of the S3 server as the steps call it,
    empty for AWS. Raises ServingError and SettingsError.
    """
    settings = checked(KServeSettings, **kserve)
    cluster = Cluster(settings.namespace)
    yield from access_to_the_store(cluster, store, settings, endpoint)
    yield from access_to_the_review(cluster, settings, endpoint)
