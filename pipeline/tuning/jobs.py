"""Pods that tune: of a Job, each a worker of one study, or of Katib, each with one trial."""

from pathlib import Path
from typing import Any

import yaml

from defectline.components.common.files import explained, replaced
from defectline.components.deploy.kserve.settings import (
    NAME_FORM,
    NAMESPACE_FORM,
    URL_FORM,
    is_namespace,
    is_object_name,
    is_url,
)
from defectline.pipeline.config import as_pairs
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.resources import DEFAULT
from defectline.pipeline.targets import S3_KEYS, check_option
from defectline.pipeline.tuning.config_file import changed
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.space import Space

CONTAINER = "trial"


def write_object(file: Path, content: dict[str, Any], option: str) -> None:
    """Write an object of Kubernetes, whole or not at all. Raises SettingsError where the file that the
    option names cannot be written."""
    text = yaml.safe_dump(content, sort_keys=False)
    with (
        explained(f"{file} cannot be written.", expected="a file's name", fix=f"Choose another {option}."),
        replaced(file.absolute()) as partial,
    ):
        partial.write_text(text)


def check_pods(pods: Pods) -> None:
    """Raise SettingsError for what Kubernetes, or the pods, could not use."""
    check_option("namespace", pods.namespace, is_namespace, NAMESPACE_FORM)
    check_option("s3_secret", pods.s3_secret, is_object_name, NAME_FORM)
    check_option("s3_endpoint", pods.s3_endpoint, is_url, URL_FORM)


def metadata(parameters: Parameters, pods: Pods) -> dict[str, Any]:
    """For `kubectl create`, which makes a name of it each time."""
    where = {"namespace": pods.namespace} if pods.namespace else {}
    return {"generateName": f"{parameters.model_name}-tune-", **where}


def workers(parameters: Parameters, options: Options, space: Space, pods: Pods) -> dict[str, Any]:
    """A Job whose pods work off one study together, through the store. Pure."""
    arguments = [*command(parameters, options), "--trials", str(options.trials)]
    # Named, since the command does not tell which settings somebody chose that are the usual ones.
    arguments += [text for one in options.search or space for text in ("--search", one)]
    # A worker whose pod is lost is started again, and goes on with what the store has.
    spec = {
        "parallelism": options.workers,
        "completions": options.workers,
        "backoffLimit": 2 * options.workers,
    }
    return job(arguments, pods, spec) | {"metadata": metadata(parameters, pods)}


def command(parameters: Parameters, options: Options) -> list[str]:
    """What a pod runs, but for what it tries. Pure."""
    found = ["defectline", "tune", "--source", parameters.source, "--store", parameters.store]
    found += ["--folds", str(options.folds), "--objective", options.objective]
    for option, limit in (
        ("--max-latency", options.max_latency_ms),
        ("--max-memory", options.max_memory_mb),
    ):
        found += [option, f"{limit:g}"] if limit else []
    found += ["--all-pictures"] if options.every_picture else []
    return [*found, *(text for pair in as_pairs(changed(parameters)) for text in ("--set", pair))]


def job(arguments: list[str], pods: Pods, spec: dict[str, Any]) -> dict[str, Any]:
    """A Job that runs the command, where pods are restricted too. Pure."""
    of = DEFAULT["train"]
    keys = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": pods.s3_secret, "key": key}}}
        for key, variable in S3_KEYS.items()
    ]
    env = [
        {"name": "HOME", "value": "/tmp"},
        *(keys if pods.s3_secret else []),
        *([{"name": "AWS_ENDPOINT_URL_S3", "value": pods.s3_endpoint}] if pods.s3_endpoint else []),
    ]
    container = {
        "name": CONTAINER,
        "image": pods.image,
        "command": arguments,
        "env": env,
        "resources": {
            "requests": {"cpu": of.cpu, "memory": of.memory},
            "limits": {"memory": of.memory_limit},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {**spec, "template": {"spec": pod}}}
