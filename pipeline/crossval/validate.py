"""Cross-validation: every picture is judged once, by a network that has not seen it.

Folds are dealt as `ingest/grouping/folds.py` says. The steps are those of the pipeline, with its parameters.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from defectline.components.common.layout import run_key
from defectline.components.common.snapshot import read_head
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.collecting import FoldRun, Judged, read_judged, write_crossval
from defectline.components.ingest.grouping.dealing import deal_out
from defectline.pipeline.crossval.judging import Task, judge
from defectline.pipeline.crossval.naming import INGEST_RUN, settings_of
from defectline.pipeline.local import run_lock, temporary_workdir
from defectline.pipeline.parameters import Parameters, check_weights
from defectline.pipeline.step_runner import StepRunner
from defectline.pipeline.workers import Worker, run_all


def cross_validate(
    parameters: Parameters, folds: int, seeds: Sequence[int], say: Say, workers: int = 1
) -> list[Judged]:
    """Train and judge every fold with every seed, in `parameters.store`; what is there already is kept.

    So many `workers` judge folds at the same time, with the same result. Reports of single folds are
    `runs/<run>/report.html` there, and what they came to is `crossval/<id>.json`. Raises SettingsError for a
    source that is too small, and whatever a step raises.
    """
    check_weights(parameters)
    store = open_storage(parameters.store)
    with run_lock(store), temporary_workdir() as work:
        take_snapshot(parameters, store, work, say)
        runs = folds_of_head(store, parameters, folds, seeds, say)
        tasks = [Task(parameters.model_copy(update={"seed": run.seed}), run.snapshot) for run in runs]
        jobs = [
            partial(
                _judge,
                task,
                f"seed {task.parameters.seed}, fold {1 + n % folds} of {folds}",
                store,
                work,
                say,
                workers,
            )
            for n, task in enumerate(tasks)
        ]
        run_all(jobs, workers)
        judged = read_judged(store, runs)
        write_crossval(store, runs, judged, settings_of(parameters, "seed"))
        return judged


def folds_of_head(
    store: Storage, parameters: Parameters, folds: int, seeds: Sequence[int], say: Say
) -> list[FoldRun]:
    """What is judged of the newest snapshot: all folds of each seed. Raises SettingsError for too few
    pictures."""
    snapshot = read_head(store)
    assert snapshot is not None
    found = deal_out(store, snapshot, folds, seeds, settings_of(parameters, "seed"), say)
    return [FoldRun(**one) for one in found]


def take_snapshot(parameters: Parameters, store: Storage, work: Path, say: Say) -> str:
    """The id of the source's present snapshot, which ingest takes where the store does not have it."""
    whatever_is_new = parameters.model_copy(update={"force": True})
    named = ("--run", INGEST_RUN)
    StepRunner(whatever_is_new, work, say).run("ingest", parameters.source, parameters.store, *named)
    # A run that has no outcome would count as under way.
    store.delete_below(run_key(INGEST_RUN, ""))
    snapshot = read_head(store)
    assert snapshot is not None
    return snapshot


def _judge(
    task: Task, title: str, store: Storage, work: Path, say: Say, workers: int, worker: Worker
) -> None:
    say(title)
    judge(task, store, work, titled(say, title) if workers > 1 else say, worker)


def titled(say: Say, title: str) -> Say:
    """Says whose line it is, where several work at the same time."""
    return lambda text: say(f"{title}: {text}")
