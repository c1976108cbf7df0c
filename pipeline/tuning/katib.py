"""A tune as a Katib Experiment: Katib proposes and starts pods, each of which judges one trial and says what
it came to."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from defectline.pipeline.parameters import Parameters
from defectline.pipeline.tuning.jobs import CONTAINER, command, job, metadata
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.space import Space

METRICS = ("cost", "iou")
"""What a trial prints, a line each: `cost=0.25`."""


def experiment(parameters: Parameters, options: Options, space: Space, pods: Pods) -> dict[str, Any]:
    """The object, for `kubectl create -f`. Pure."""
    tried = [text for name in space for text in ("--try", f"{name}=${{trialParameters.{name}}}")]
    # A trial whose pod is lost goes on from the folds that are in the store.
    trial = job([*command(parameters, options), *tried], pods, {"backoffLimit": 2})
    others = [name for name in METRICS if name != options.objective]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": metadata(parameters, pods),
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
                "trialSpec": trial,
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
