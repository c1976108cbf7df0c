"""What a tune is asked, and what it has tried, as plain files in the store.

tuning/<study>/study.json             a `Study`
tuning/<study>/trials/00007.json      a `Trial` that has ended: written once, never changed
tuning/<study>/claims/00007.json      who works on it: see claims.py
tuning/<study>/config.yaml            the best settings, for `defectline run --config`
tuning/<study>/index.html             table and plot

A study is named by all that its numbers depend on, so that the same command goes on and another one begins
again. What its folds came to is in runs/crossval-…, where other studies and `defectline crossval` find it.
"""

import hashlib
import json
from statistics import stdev
from typing import Literal

from pydantic import BaseModel, ConfigDict

Objective = Literal["cost", "iou"]
State = Literal["complete", "pruned", "infeasible", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Study(_Frozen):
    """All that decides what is proposed and what it comes to."""

    source: str
    snapshot: str
    """Of the source."""
    folds: tuple[str, ...]
    """A snapshot each."""
    objective: Objective
    max_latency_ms: float = 0.0
    max_memory_mb: float = 0.0
    """0 for no limit."""
    seed: int
    settings: str
    """All parameters of the default, as `key=value key=value …`."""
    space: dict[str, str]
    """Settings → range or choices, as `--search` takes them."""

    @property
    def id(self) -> str:
        """A source that moved is the same study."""
        asked = json.dumps(self.model_dump(mode="json", exclude={"source"}), sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:12]


class FoldResult(_Frozen):
    run: str
    pictures: int
    cost: float
    """Of wrong verdicts and looks, in rejected good parts a picture."""
    iou: float | None
    """None where no pixel is in truth or answer."""


class Footprint(_Frozen):
    """What the exported network takes on the machine that it was measured on."""

    latency_ms: float
    """Median of a whole inspection of a picture, from its bytes to the verdict."""
    memory_mb: float
    """Most that a process held that does nothing else."""


class Trial(_Frozen):
    number: int
    """0 are the default settings."""
    state: State
    values: dict[str, bool | int | float | str]
    """Of the settings that are searched."""
    folds: tuple[FoldResult, ...] = ()
    """Fewer than the study has where it was not worth judging the others."""
    footprint: Footprint | None = None
    reason: str = ""
    """Why it ended early."""

    @property
    def pictures(self) -> int:
        return sum(fold.pictures for fold in self.folds)

    @property
    def cost(self) -> float | None:
        """Of a picture, over all folds that were judged."""
        if not self.folds:
            return None
        return sum(fold.cost * fold.pictures for fold in self.folds) / self.pictures

    @property
    def iou(self) -> float | None:
        """Mean over the folds."""
        known = [fold.iou for fold in self.folds if fold.iou is not None]
        return sum(known) / len(known) if known else None

    def spread(self, objective: Objective) -> float | None:
        """Standard deviation over the folds; None for fewer than two."""
        values = [getattr(fold, objective) for fold in self.folds]
        return stdev(values) if len(values) > 1 and None not in values else None
