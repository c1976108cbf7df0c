"""The last runs of a store, as its front page tells of them."""

import json
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import DefectlineError
from defectline.components.common.records import Outcome, read_outcome
from defectline.components.common.storage import Storage

RUNS = 100
READERS = 16


class Ended(NamedTuple):
    """What the page knows of a run."""

    run: str
    ended: str
    """When the last of its files was written: ISO 8601, UTC."""
    outcome: Outcome | None
    metrics: Mapping[str, Any]
    """The content of metrics.json; empty for a run that did not reach its gate."""
    files: frozenset[str]
    """Names below runs/<run>/."""

    @property
    def model(self) -> str:
        return str(self.metrics.get("model", ""))

    @property
    def version(self) -> str:
        return str(self.metrics.get("version", ""))

    @property
    def state(self) -> str:
        return self.outcome.state if self.outcome else "unfinished"


def read_runs(store: Storage) -> list[Ended]:
    """The last RUNS, the newest first, without folds of a cross-validation; of a damaged file, nothing.

    Raises StoreError where the store cannot be listed.
    """
    times: dict[str, str] = {}
    files: dict[str, set[str]] = defaultdict(set)
    for one in store.list(layout.RUNS):
        _, run, *rest = one.key.split("/")
        if rest and not run.startswith(layout.CROSSVAL):
            times[run] = max(times.get(run, ""), one.modified)
            files[run].add("/".join(rest))
    last = sorted(times, key=lambda run: (times[run], run), reverse=True)[:RUNS]

    def read(run: str) -> Ended:
        try:
            outcome = read_outcome(store, run)
        except DefectlineError:
            outcome = None
        return Ended(
            run, times[run], outcome, read_json(store, run, layout.METRICS, {}), frozenset(files[run])
        )

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, last))


def read_json(store: Storage, run: str, name: str, otherwise: Any) -> Any:
    """The content of a file of the run; `otherwise` where it is missing, damaged or of another type."""
    try:
        found = json.loads(store.read(layout.run_key(run, name)))
    except (KeyError, ValueError, DefectlineError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise
