"""What a trial tries, and whether it is worth going on with: Optuna's sampler and pruner.

Optuna keeps nothing: its study is made again of the trials in the store. What trial 7 tries follows from
the seed, its number and the trials before it that have ended, whichever process asks.
"""

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import TrialState

from defectline.pipeline.tuning.space import Space, Value, rounded
from defectline.pipeline.tuning.study import Study, Trial
from defectline.pipeline.tuning.trials import loss_of

RANDOM_TRIALS = 8
"""So many are drawn at random before the sampler has something to go by."""
P_PRUNE = 0.1
"""Of Wilcoxon's signed-rank test: how probable it may be that a trial that is given up is no worse."""
CONSTRAINTS = "constraints"
"""Where Optuna's samplers look for how far a trial is beyond the limits."""


def propose(number: int, study: Study, space: Space, trials: Sequence[Trial]) -> dict[str, Value]:
    """The values of a trial that is not the default's, from those `trials` that have ended before it."""
    _quiet()
    digest = hashlib.sha256(f"{study.seed} {number}".encode()).digest()
    sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4]),
        n_startup_trials=RANDOM_TRIALS,
        multivariate=True,
        constraints_func=lambda trial: trial.system_attrs.get(CONSTRAINTS, ()),
    )
    made = optuna.create_study(sampler=sampler)
    for trial in trials:
        if trial.number < number and (known := _as_optunas(trial, study, space)):
            made.add_trial(known)
    return rounded(made.ask(dict(space)).params, space)


def _as_optunas(trial: Trial, study: Study, space: Space) -> optuna.trial.FrozenTrial | None:
    """None where it says nothing: it failed, or is the default and outside of the space."""
    if trial.cost is None or not all(_within(space, name, value) for name, value in trial.values.items()):
        return None
    found = loss_of(trial, study.objective)
    pruned = trial.state == "pruned"
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        value=None if pruned else found,
        # Those that were given up come after all others, whatever they did in a few folds.
        intermediate_values={len(trial.folds): found} if pruned else {},
        params=dict(trial.values),
        distributions=dict(space),
        system_attrs={CONSTRAINTS: beyond(trial, study)},
    )


def _within(space: Space, name: str, value: Value) -> bool:
    one = space[name]
    if isinstance(one, optuna.distributions.CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in one.choices)
    assert isinstance(one, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    return not isinstance(value, str) and one._contains(value)


def beyond(trial: Trial, study: Study) -> list[float]:
    """How far it is beyond each limit that the study has, as a share of it; 0 and less is within."""
    if trial.footprint is None:
        return []
    of = trial.footprint
    limits = ((of.latency_ms, study.max_latency_ms), (of.memory_mb, study.max_memory_mb))
    return [found / limit - 1 for found, limit in limits if limit]


def is_hopeless(losses: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether a trial is worse than the best one on the pictures that both have judged.

    Both map pictures to what was lost on them. The pictures are paired, and their number counts: a fold that
    is hard for all says nothing. Wilcoxon's test, at P_PRUNE.
    """
    shared = sorted(losses.keys() & best.keys())
    if not shared:
        return False
    _quiet()
    made = optuna.create_study(pruner=optuna.pruners.WilcoxonPruner(p_threshold=P_PRUNE))
    rest = sorted(best.keys() - losses.keys())
    made.add_trial(
        optuna.trial.create_trial(
            value=sum(best.values()) / len(best),
            intermediate_values={step: best[id] for step, id in enumerate([*shared, *rest])},
        )
    )
    trial = made.ask()
    for step, id in enumerate(shared):
        trial.report(losses[id], step)
    return trial.should_prune()


def _quiet() -> None:
    """Optuna tells what it is experimenting with, and a line for each study: nobody here can change it."""
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(logging.WARNING)
