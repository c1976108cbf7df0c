"""A target with all that a cluster can be told, and how to read what was compiled for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from defectline.pipeline.targets import Target

STEPS = {"ingest", "find-champion", "preprocess", "train", "evaluate", "deploy", "finish"}
CLUSTER = Target(
    name="cluster",
    kserve={"namespace": "vision", "service_account": "puller"},
    gpus=1,
    s3_secret="s3-keys",
    s3_endpoint="https://s3.example.com",
    s3_region="eu-central-1",
    gcs_secret="gcs-key",
    pull_secret="registry",
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    node_selector={"gpu": "true"},
)


def executors(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The container of each step."""
    return {
        name.removeprefix("exec-"): executor["container"]
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }


def tasks(node: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of a compiled pipeline, at any depth, with its name."""
    if isinstance(node, dict):
        yield from node.get("tasks", {}).items()
        for child in node.values():
            yield from tasks(child)


def fill_in_labels(package: Path, run: str) -> None:
    """What kubelet does, of which KFP's local runners know nothing: variables made of a pod's labels."""
    spec, platform = yaml.safe_load_all(package.read_text())
    for name, config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        container = spec["deploymentSpec"]["executors"][name]["container"]
        for field in config["fieldPathAsEnv"]:
            # KFP puts this label on every pod of a run: of one that was started, and of a schedule's.
            assert field["fieldPath"] == "metadata.labels['pipeline/runid']"
            container["env"].append({"name": field["name"], "value": run})
    package.write_text(yaml.safe_dump_all([spec, platform]))
