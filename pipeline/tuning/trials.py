"""The trials of a study in a store, and which of them is the best."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from defectline.components.common.errors import Conflict, StoreError
from defectline.components.common.layout import tuning_key
from defectline.components.common.storage import Storage
from defectline.pipeline.tuning.study import Objective, State, Study, Trial

TIE = 1e-6
"""What one of IoU weighs beside the cost, and the other way round: it decides between equals."""


def loss(objective: Objective, cost: float, iou: float | None) -> float:
    """What is made as small as possible; the other figure decides between equals. Pure."""
    iou = 0.0 if iou is None else iou
    return cost - TIE * iou if objective == "cost" else TIE * cost - iou


def loss_of(trial: Trial, objective: Objective) -> float:
    """Of the folds that were judged; infinite where there are none."""
    return float("inf") if trial.cost is None else loss(objective, trial.cost, trial.iou)


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The best of those that were judged in all folds and keep the limits; of equals the first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return min(complete, key=lambda trial: (loss_of(trial, objective), trial.number), default=None)


ORDER: tuple[State, ...] = ("complete", "pruned", "infeasible", "failed")


def ranked(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The best first."""
    return sorted(trials, key=lambda one: (ORDER.index(one.state), loss_of(one, objective), one.number))


class Trials(NamedTuple):
    """Those of one study in a store."""

    store: Storage
    study: str

    def key(self, number: int) -> str:
        return tuning_key(self.study, f"trials/{number:05}.json")

    def ended(self) -> set[int]:
        """Their numbers."""
        prefix = tuning_key(self.study, "trials/")
        names = (one.key.removeprefix(prefix).removesuffix(".json") for one in self.store.list(prefix))
        return {int(name) for name in names if name.isdecimal()}

    def read(self) -> list[Trial]:
        """In the order of their numbers. Raises StoreError for one that is damaged."""
        return [self._read(number) for number in sorted(self.ended())]

    def _read(self, number: int) -> Trial:
        try:
            return Trial.model_validate_json(self.store.read(self.key(number)))
        except ValidationError as error:
            raise StoreError(
                f"{self.store.url(self.key(number))} is damaged.",
                got=str(error.errors()[0]["msg"]),
                expected="what `defectline tune` wrote",
                fix="Remove the file: the same command tries it again.",
            ) from None

    def write(self, trial: Trial) -> Trial:
        """Keep a trial that has ended. Where another worker was faster, its result is kept and returned."""
        try:
            self.store.compare_and_swap(self.key(trial.number), _to_json(trial), None)
        except Conflict:
            return self._read(trial.number)
        return trial


def write_study(store: Storage, study: Study) -> None:
    """Keep what was asked, where it is not there yet."""
    key = tuning_key(study.id, "study.json")
    if not store.exists(key):
        store.write(key, _to_json(study))


def _to_json(record: BaseModel) -> bytes:
    return record.model_dump_json(indent=2).encode()
