"""A target with all that a cluster can be told, and how to read what was compiled for it."""

from collections.abc import Iterator
from typing import Any

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
