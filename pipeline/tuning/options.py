"""What a tune can be told, and what it comes to."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from defectline.pipeline.tuning.space import Space, Value
from defectline.pipeline.tuning.study import Objective, Study, Trial

if TYPE_CHECKING:
    from defectline.pipeline.targets import Target

STATES = {"complete": "judged", "pruned": "given up", "infeasible": "beyond a limit", "failed": "failed"}
"""What became of a trial."""


class Options(NamedTuple):
    trials: int = 20
    """In all, with those that were tried before."""
    folds: int = 4
    objective: Objective = "cost"
    max_latency_ms: float = 0.0
    max_memory_mb: float = 0.0
    """0 for no limit."""
    search: Sequence[str] = ()
    """What to search, as `--search` takes it; all where it is empty."""
    given: Collection[str] = ()
    """Settings that somebody chose, which are not searched by default."""
    every_picture: bool = False
    """Also those of the test split."""
    workers: int = 1


class Pods(NamedTuple):
    """Where a study's workers run, or the trials of a Katib Experiment."""

    image: str
    """With the command `defectline` and the extra `local`."""
    namespace: str
    """Empty for that of kubectl's context."""
    target: "Target"
    """Says what each may use: resources and GPUs of the step train, secrets, nodes."""


class Tuned(NamedTuple):
    study: Study
    space: Space
    trials: list[Trial]
    best: Trial | None
    """None where none keeps the limits."""


def differences(values: Mapping[str, Value], usual: Mapping[str, Value]) -> str:
    """The values that are not the usual ones, as `key=value key=value …`."""
    pairs = [(name, value) for name, value in values.items() if value != usual.get(name)]
    return " ".join(f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in pairs)
