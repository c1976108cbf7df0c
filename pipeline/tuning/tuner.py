"""Search settings over the folds of a cross-validation.

A trial trains and judges fold after fold with its settings, and is given up as soon as it is beyond a limit
or worse than the best one on the pictures so far. Trial 0 are the settings as they are, so that the best is
never worse than these on the folds. Pictures of the source's test split take no part, unless it is asked for:
they are the gate's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Event

from defectline.components.common.settings import select
from defectline.components.common.snapshot import SPLITS, read_pairs, read_snapshot
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.settings import Costs, EvaluateSettings
from defectline.components.ingest.grouping.folds import publish_folds
from defectline.pipeline.crossval.naming import settings_of
from defectline.pipeline.crossval.validate import take_snapshot
from defectline.pipeline.local import run_lock, temporary_workdir
from defectline.pipeline.parameters import Parameters, check_weights
from defectline.pipeline.tuning.claims import Claims
from defectline.pipeline.tuning.options import Options, Tuned
from defectline.pipeline.tuning.search import describe, make_space
from defectline.pipeline.tuning.space import Space, Value, apply
from defectline.pipeline.tuning.study import Study, Trial
from defectline.pipeline.tuning.trials import best_of, write_study
from defectline.pipeline.tuning.trying import Tuner
from defectline.pipeline.workers import run_all

LARGE = 1.5
"""Pictures so many times larger than the network's input may be worth cutting into tiles."""


def tune(parameters: Parameters, options: Options, say: Say) -> Tuned:
    """Try so many settings, in `parameters.store`; what was tried before counts, and folds are kept.

    Raises SettingsError for a source that is too small, for what cannot be searched and where the default
    settings fail, and whatever a step raises that has nothing to do with the settings.
    """
    # What was typed wrong is told before anything is read.
    _check(parameters, make_space(options.search))
    with _prepared(parameters, options, say) as tuner:
        study, trials = tuner.study, tuner.trials
        write_study(tuner.store, study)
        if before := len(trials.ended()):
            are = "trial is" if before == 1 else "trials are"
            say(f"study {study.id}: {before} {are} there already; {options.trials} wanted in all")
        else:
            say(f"study {study.id}: {options.trials} to try, of {options.folds} folds each")
        run_all(
            [partial(tuner.work_off, Claims(tuner.store, study.id)) for _ in range(options.workers)],
            options.workers,
        )
        ended = trials.read()
        return Tuned(study, tuner.space, ended, best_of(ended, study.objective))


def try_values(parameters: Parameters, options: Options, values: Mapping[str, Value], say: Say) -> Trial:
    """Judge these values alone, in all folds: for others who search. No trial of a study; folds are kept.

    Raises as `tune`, and SettingsError or BundleError for values that do not go together.
    """
    apply(parameters, values)
    with _prepared(parameters, options, say) as tuner:
        (trial,) = run_all([lambda worker: tuner.judge(1, values, [], worker, Event())], workers=1)
        assert trial is not None
        return trial


@contextmanager
def _prepared(parameters: Parameters, options: Options, say: Say) -> Iterator[Tuner]:
    """The folds of the source, dealt out; the store is locked."""
    check_weights(parameters)
    store = open_storage(parameters.store)
    with run_lock(store), temporary_workdir() as work:
        snapshot = take_snapshot(parameters, store, work, say)
        splits = SPLITS if options.every_picture else ("train", "validation")
        folds = publish_folds(store, snapshot, options.folds, say, splits)
        space = make_space(options.search, options.given, _are_large(store, snapshot, parameters))
        study = Study(
            source=parameters.source,
            snapshot=snapshot,
            folds=tuple(folds),
            objective=options.objective,
            max_latency_ms=options.max_latency_ms,
            max_memory_mb=options.max_memory_mb,
            seed=parameters.seed,
            settings=settings_of(parameters),
            space=describe(space),
        )
        costs = _costs(parameters, store, snapshot)
        yield Tuner(store, parameters, study, space, costs, work, say, options)


def _check(parameters: Parameters, space: Space) -> None:
    """Raise SettingsError for a choice that does not go together with the other settings."""
    for name, one in space.items():
        for choice in getattr(one, "choices", ()):
            apply(parameters, {name: choice})


def _are_large(store: Storage, snapshot: str, parameters: Parameters) -> bool:
    sides = [max(pair.width, pair.height) for pair in read_pairs(store, snapshot) if pair.accepted]
    return max(sides, default=0) > LARGE * parameters.image_size


def _costs(parameters: Parameters, store: Storage, snapshot: str) -> Costs:
    settings = EvaluateSettings(**select(EvaluateSettings, parameters))
    return settings.costs(read_snapshot(store, snapshot).classes)
