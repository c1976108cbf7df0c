"""Pods that tune: of a Job, each a worker of one study, or of Katib, each with one trial."""

import re
from pathlib import Path
from typing import Any

import yaml

from defectline.components.common.files import explained, replaced
from defectline.components.train.cluster.settings import PodSettings
from defectline.components.train.cluster.trainjob import environment, mounts, pod_fields
from defectline.pipeline.config import as_pairs
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.tuning.config_file import changed
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.space import Space

CONTAINER = "trial"


class _ForEveryReader(yaml.SafeDumper):
    """Quotes texts like 1e-05 as well, which YAML 1.2, and so kubectl, reads as a number."""


_ForEveryReader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?\Z"),
    list("-+.0123456789"),
)


def write_object(file: Path, content: dict[str, Any], option: str) -> None:
    """Write an object of Kubernetes, whole or not at all. Raises SettingsError where the file that the
    option names cannot be written."""
    text = yaml.dump(content, Dumper=_ForEveryReader, sort_keys=False)
    with (
        explained(f"{file} cannot be written.", expected="a file's name", fix=f"Choose another {option}."),
        replaced(file.absolute()) as partial,
    ):
        partial.write_text(text)


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
    target, settings = pods.target, PodSettings(**pods.target.training_pods(pods.image))
    fields, mounted = pod_fields(settings), mounts(settings)
    if target.gpus:
        # Data loaders share batches through /dev/shm, of which a pod has 64 MB.
        memory = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
        fields["volumes"] = [*fields.get("volumes", []), memory]
        mounted = [*mounted, {"name": "shm", "mountPath": "/dev/shm"}]
    container = {
        "name": CONTAINER,
        "image": settings.image,
        "command": arguments,
        "env": environment(settings),
        "resources": settings.resources,
        **({"volumeMounts": mounted} if mounted else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {"runAsUser": target.run_as_user} if target.run_as_user else {}
    pod = {
        **fields,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            **user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {**spec, "template": {"spec": pod}}}
