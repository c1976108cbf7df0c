"""What a compiled pipeline needs: secrets for its pods, and a model's name that KServe can serve."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.deploy.kserve.names import fault, is_name
from defectline.pipeline.kfp_server.package import read_documents


@dataclass(frozen=True)
class Needs:
    secrets: dict[str, set[str]]
    """Of the steps: name → keys; none for a login of a registry."""
    kserve: dict[str, Any]
    """Fields of KServeSettings; empty where the model serves on this machine."""
    endpoint: str
    """The URL of the S3 server that the steps are told, empty for none."""


def read_needs(package: Path) -> Needs:
    """Raises SettingsError where `package` is not a compiled pipeline."""
    _, documents = read_documents(package)
    pipeline, platform = documents[0], documents[1] if len(documents) > 1 else {}
    executors = pipeline.get("deploymentSpec", {}).get("executors", {})
    env = {name: _env(executor) for name, executor in executors.items()}
    secrets: dict[str, set[str]] = {}
    kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    for name, settings in kubernetes.get("deploymentSpec", {}).get("executors", {}).items():
        for secret, keys in _secrets(settings, env.get(name, {})):
            secrets.setdefault(secret, set()).update(keys)
    tasks = pipeline["root"]["dag"].get("tasks", {})
    finish = tasks.get("finish", {}).get("inputs", {}).get("parameters", {}).get("kserve", {})
    endpoints = [found["AWS_ENDPOINT_URL_S3"] for found in env.values() if "AWS_ENDPOINT_URL_S3" in found]
    kserve = finish.get("runtimeValue", {}).get("constant", {})
    return Needs(secrets, kserve, endpoints[0] if endpoints else "")


def check_name(name: str, kserve: Mapping[str, Any]) -> None:
    """Raise SettingsError where KServe could not serve a model of that name: only the deployment would tell.

    `kserve` has fields of KServeSettings. How KServe makes hosts of names is looked up in the cluster of
    KUBECONFIG where that matters; where it cannot be asked, it is taken to be KServe's default.
    """
    if not kserve:
        return
    namespace, mode = kserve["namespace"], kserve.get("deployment_mode") or "Standard"
    found = fault(name, namespace, mode)
    if found and is_name(name, mode):
        # The packages of Kubernetes are slow to import.
        from defectline.components.deploy.kserve.cluster import Cluster
        from defectline.components.deploy.kserve.preflight.naming import naming

        with suppress(ServingError):
            found = next(naming(Cluster(namespace), name, mode), None)
    if found:
        raise SettingsError(found.what, got=found.got, expected=found.expected, fix=found.fix)


def _env(executor: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in executor.get("container", {}).get("env", [])}


def _secrets(settings: dict[str, Any], env: dict[str, str]) -> Iterator[tuple[str, set[str]]]:
    """Each secret that an executor cannot go without, and its keys."""
    for one in settings.get("secretAsEnv", []):
        if not one.get("optional"):
            yield one["secretName"], {pair["secretKey"] for pair in one.get("keyToEnv", [])}
    for one in settings.get("secretAsVolume", []):
        if not one.get("optional"):
            paths = [PurePosixPath(value) for value in env.values()]
            folder = PurePosixPath(one["mountPath"])
            yield one["secretName"], {path.name for path in paths if path.parent == folder}
    for one in settings.get("imagePullSecret", []):
        yield one["secretName"], set()
