"""A tune as a Katib Experiment: Katib proposes and starts pods, each of which judges one trial and says what
it came to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from defectline.components.common.files import explained, replaced
from defectline.pipeline.config import as_pairs
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.resources import DEFAULT
from defectline.pipeline.targets import S3_KEYS
from defectline.pipeline.tuning.config_file import changed
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.space import Space

CONTAINER = "trial"
METRICS = ("cost", "iou")
"""What a trial prints, a line each: `cost=0.25`."""


def write_experiment(file: Path, parameters: Parameters, options: Options, space: Space, pods: Pods) -> None:
    """Write the Experiment, whole or not at all. Raises SettingsError where the file cannot be written."""
    text = yaml.safe_dump(experiment(parameters, options, space, pods), sort_keys=False)
    with (
        explained(f"{file} cannot be written.", expected="a file's name", fix="Choose another --katib."),
        replaced(file.absolute()) as partial,
    ):
        partial.write_text(text)


def experiment(parameters: Parameters, options: Options, space: Space, pods: Pods) -> dict[str, Any]:
    """The object, for `kubectl create -f`. Pure."""
    others = [name for name in METRICS if name != options.objective]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {
            "generateName": f"{parameters.model_name}-tune-",
            **({"namespace": pods.namespace} if pods.namespace else {}),
        },
        "spec": {
            "objective": {
                "type": "minimize" if options.objective == "cost" else "maximize",
                "objectiveMetricName": options.objective,
                "additionalMetricNames": others,
            },
            "algorithm": {
                "algorithmName": "tpe",
                "algorithmSettings": [{"name": "random_state", "value": str(parameters.seed)}],
            },
            "maxTrialCount": options.trials,
            "parallelTrialCount": options.workers,
            # One that is beyond a limit counts as failed.
            "maxFailedTrialCount": options.trials,
            "parameters": [{"name": name, **_feasible(one)} for name, one in space.items()],
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "trialTemplate": {
                "primaryContainerName": CONTAINER,
                "trialParameters": [{"name": name, "reference": name} for name in space],
                "trialSpec": _job(command(parameters, options, space), pods),
            },
        },
    }


def _feasible(one: BaseDistribution) -> dict[str, Any]:
    if isinstance(one, CategoricalDistribution):
        told = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in one.choices]
        return {"parameterType": "categorical", "feasibleSpace": {"list": told}}
    assert isinstance(one, FloatDistribution | IntDistribution)
    ends = {"min": str(one.low), "max": str(one.high)}
    if isinstance(one, IntDistribution):
        return {"parameterType": "int", "feasibleSpace": {**ends, "step": str(one.step)}}
    spread = {"distribution": "logUniform"} if one.log else {}
    return {"parameterType": "double", "feasibleSpace": {**ends, **spread}}


def command(parameters: Parameters, options: Options, space: Mapping[str, Any]) -> list[str]:
    """What a pod runs: one trial, whose values Katib fills in. Pure."""
    found = ["defectline", "tune", "--source", parameters.source, "--store", parameters.store]
    found += ["--folds", str(options.folds), "--objective", options.objective]
    for option, limit in (
        ("--max-latency", options.max_latency_ms),
        ("--max-memory", options.max_memory_mb),
    ):
        found += [option, f"{limit:g}"] if limit else []
    found += ["--all-pictures"] if options.every_picture else []
    found += [text for pair in as_pairs(changed(parameters)) for text in ("--set", pair)]
    return [*found, *(text for name in space for text in ("--try", f"{name}=${{trialParameters.{name}}}"))]


def _job(arguments: list[str], pods: Pods) -> dict[str, Any]:
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
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        # A trial whose pod is lost goes on from the folds that are in the store.
        "spec": {"backoffLimit": 2, "template": {"spec": pod}},
    }
