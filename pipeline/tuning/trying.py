"""Trials, fold after fold: judged, measured, and given up where they are not worth going on with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.layout import run_key
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.evaluate.collecting import read_counts
from defectline.components.evaluate.metrics import Count, cost_of_errors, summarize, with_masks
from defectline.components.evaluate.settings import Costs
from defectline.pipeline.crossval.judging import Task, judge
from defectline.pipeline.crossval.validate import titled
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.step_runner import StepRunner
from defectline.pipeline.tuning.claims import Claims
from defectline.pipeline.tuning.options import STATES, Options, differences
from defectline.pipeline.tuning.proposing import beyond, is_hopeless, propose
from defectline.pipeline.tuning.space import FIELDS, Space, Value, apply, values_in
from defectline.pipeline.tuning.study import FoldResult, Footprint, Study, Trial
from defectline.pipeline.tuning.trials import Trials, best_of
from defectline.pipeline.workers import Worker

FOOTPRINT = "footprint.json"
"""Below the folder of a fold's run."""
POLL_S = 2.0
"""Between two looks at whether another machine has ended its trial."""


class Tuner:
    """Works off a study; several workers may, in one process or in several."""

    def __init__(
        self,
        store: Storage,
        parameters: Parameters,
        study: Study,
        space: Space,
        costs: Costs,
        work: Path,
        say: Say,
        options: Options,
    ):
        self.store, self.parameters, self.study, self.space = store, parameters, study, space
        self.costs, self.work, self.say, self.options = costs, work, say, options
        self.trials = Trials(store, study.id)

    def work_off(self, claims: Claims, worker: Worker) -> None:
        """Try what nobody tries, until all trials have ended."""
        while left := sorted(set(range(self.options.trials)) - self.trials.ended()):
            worker.check()
            for number in left:
                if claims.take(number):
                    self._work_on(number, claims, worker)
                    break
            else:
                worker.wait(POLL_S)

    def _work_on(self, number: int, claims: Claims, worker: Worker) -> None:
        with claims.kept(number) as lost:
            if number in self.trials.ended():
                return
            before = self.trials.read()
            values = (
                propose(number, self.study, self.space, before)
                if number
                else values_in(self.parameters, self.space)
            )
            trial = self.judge(number, values, before, worker, lost)
            if trial is not None:
                self._tell(self.trials.write(trial))

    def judge(
        self, number: int, values: Mapping[str, Value], before: Sequence[Trial], worker: Worker, lost: Event
    ) -> Trial | None:
        """A trial with these values, compared with the best of those before; None where it was lost to
        another worker."""
        self.say(f"trial {number}: {self.title(values)}")
        folds: list[FoldResult] = []
        footprint: Footprint | None = None
        losses: dict[str, float] = {}
        best = best_of([trial for trial in before if trial.number < number], self.study.objective)

        def ended(**changes: object) -> Trial:
            found = Trial(
                number=number, state="complete", values=dict(values), folds=tuple(folds), footprint=footprint
            )
            return found.model_copy(update=changes)

        try:
            parameters = apply(self.parameters, values) if number else self.parameters
            for fold, snapshot in enumerate(self.study.folds):
                if lost.is_set():
                    return None
                task = Task(parameters, snapshot)
                counts = self._judge(task, number, fold, footprint is None, worker)
                footprint = footprint or self._footprint(task.run)
                folds.append(self._result(task.run, counts))
                losses |= self._losses(counts)
                if too_much := self._limits(ended()):
                    return ended(state="infeasible", reason=too_much)
                if fold + 1 < len(self.study.folds) and best and is_hopeless(losses, self._losses_of(best)):
                    reason = f"worse than trial {best.number} on the pictures of {fold + 1} folds"
                    return ended(state="pruned", reason=reason)
        except (SettingsError, BundleError) as error:
            if number == 0:
                raise
            return ended(state="failed", reason=error.reason)
        return ended()

    def _judge(self, task: Task, number: int, fold: int, measured: bool, worker: Worker) -> list[Count]:
        title = f"trial {number}, fold {fold + 1} of {len(self.study.folds)}"
        if self.options.workers == 1:
            self.say(title)
        told = titled(self.say, title) if self.options.workers > 1 else self.say
        limited = bool(self.study.max_latency_ms or self.study.max_memory_mb)
        key = run_key(task.run, FOOTPRINT)

        def look(bundle: Path, steps: StepRunner) -> None:
            file = bundle.with_name(FOOTPRINT)
            steps.run_module("defectline.pipeline.tuning.measuring", str(bundle), str(file))
            self.store.write(key, file.read_bytes())

        again = limited and measured and not self.store.exists(key)
        return judge(task, self.store, self.work, told, worker, look if measured else None, again)

    def _footprint(self, run: str) -> Footprint | None:
        key = run_key(run, FOOTPRINT)
        return Footprint.model_validate_json(self.store.read(key)) if self.store.exists(key) else None

    def _result(self, run: str, counts: Sequence[Count]) -> FoldResult:
        cost = cost_of_errors(counts, self.costs) / len(counts)
        iou = summarize(counts, None)["iou"]
        return FoldResult(run=run, pictures=len(counts), cost=cost, iou=iou)

    def _losses(self, counts: Sequence[Count]) -> dict[str, float]:
        """What is lost on each picture."""
        if self.study.objective == "cost":
            return {count.id: cost_of_errors([count], self.costs) for count in counts}
        overlaps = [(c.id, c.tp, c.tp + c.fp + c.fn) for c in with_masks(counts)]
        return {id: 1 - (hit / whole if whole else 1.0) for id, hit, whole in overlaps}

    def _losses_of(self, trial: Trial) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for fold in trial.folds:
            found |= self._losses(read_counts(self.store, fold.run) or [])
        return found

    def _limits(self, trial: Trial) -> str:
        """What it is beyond of the limits; empty where it keeps them."""
        if trial.footprint is None or max(beyond(trial, self.study), default=0) <= 0:
            return ""
        of, study = trial.footprint, self.study
        told = [
            f"{found:.3g} {unit}, {limit:g} {unit} allowed"
            for found, limit, unit in (
                (of.latency_ms, study.max_latency_ms, "ms"),
                (of.memory_mb, study.max_memory_mb, "MB"),
            )
            if limit and found > limit
        ]
        return "; ".join(told)

    def title(self, values: Mapping[str, Value]) -> str:
        """What differs from the settings as they are."""
        usual = values_in(self.parameters, FIELDS)
        return differences({**usual, **values}, usual) or "the settings as they are"

    def _tell(self, trial: Trial) -> None:
        cost = "" if trial.cost is None else f": cost {trial.cost:.3f} a picture"
        iou = "" if trial.iou is None else f", IoU {trial.iou:.3f}"
        why = f" ({trial.reason})" if trial.reason else ""
        self.say(f"trial {trial.number} {STATES[trial.state]}{why}{cost}{iou}")
