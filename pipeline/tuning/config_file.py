"""The settings that a tune came to, as a file for `defectline run --config`."""

from collections import Counter
from typing import Any

import yaml

from defectline.components.common.settings import select
from defectline.components.train.settings import TRAINING, TrainParameters, TrainSettings, read_settings
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.tuning.options import STATES, Tuned
from defectline.pipeline.tuning.space import apply
from defectline.pipeline.tuning.study import Objective, Trial


def config_text(tuned: Tuned, parameters: Parameters, every_picture: bool) -> str:
    """The best settings as YAML, with what was tried in comments. Pure."""
    best, study = tuned.best, tuned.study
    assert best is not None
    default = next((trial for trial in tuned.trials if trial.number == 0), best)
    states = Counter[str](trial.state for trial in tuned.trials)
    tried = ", ".join(f"{states[state]} {word}" for state, word in STATES.items() if states[state])
    what = "cost of a picture, in rejected good parts" if study.objective == "cost" else "defect IoU"
    lines = [
        f"The best of {len(tuned.trials)} trials by `defectline tune`: trial {best.number} of {study.id},",
        f"over {len(study.folds)} folds of {best.pictures} pictures of snapshot {study.snapshot}.",
        f"{what}: {_of(best, study.objective)}; with the settings as they were "
        f"{_of(default, study.objective)}.",
    ]
    if best.footprint:
        lines.append(
            f"Where it was tried, an image takes {best.footprint.latency_ms:g} ms and the process "
            f"{best.footprint.memory_mb:g} MB."
        )
    lines += [
        f"Tried: {tried}.",
        f"Searched: {', '.join(f'{name}={told}' for name, told in study.space.items())}.",
        "It looks better here than it is: the best of many was lucky, too. Judge it again with another seed,",
        f"  defectline crossval --config FILE --set seed={study.seed + 1000} --seeds 3",
    ]
    lines.append(
        "All pictures were used, so the gate's test split is not new to these settings either."
        if every_picture
        else "and by the test split, which no trial has seen: defectline run --config FILE"
    )
    head = "".join(f"# {line}\n" for line in lines)
    content = {
        "source": parameters.source,
        "store": parameters.store,
        **({} if parameters.model_name == _default("model_name") else {"name": parameters.model_name}),
        "parameters": _as_mapping(apply(parameters, best.values) if best.number else parameters),
    }
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _default(name: str) -> Any:
    return Parameters.model_fields[name].default


def changed(parameters: Parameters) -> dict[str, Any]:
    """What differs from the defaults. Pure."""
    others = ("source", "store", "force")
    return {
        name: value
        for name, value in parameters.model_dump().items()
        if name not in others and value != _default(name)
    }


def _as_mapping(parameters: Parameters) -> dict[str, Any]:
    """What differs from the defaults, with the settings of training as a mapping."""
    found = {k: v for k, v in changed(parameters).items() if k not in ("model_name", "training")}
    chosen = select(TrainParameters, parameters)
    usual = TrainSettings(**{name: value for name, value in chosen.items() if name != "training"})
    training = {
        name: value
        for name, value in read_settings(**chosen).model_dump().items()
        if name in TRAINING and value != getattr(usual, name)
    }
    return {**found, **({"training": training} if training else {})}


def _of(trial: Trial, objective: Objective) -> str:
    value, spread = getattr(trial, objective), trial.spread(objective)
    if value is None:
        return "unknown"
    return f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f} over the folds")
