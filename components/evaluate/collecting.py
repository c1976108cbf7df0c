"""What the folds of a cross-validation come to: a row a seed, their mean and spread.

crossval/<id>.json    {"settings", "runs": [{"seed", "snapshot", "run"}, …], "seeds": [{"seed", metrics…}, …],
                      "mean": {…}, "spread": {…}}
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from statistics import mean, stdev
from typing import Any, NamedTuple

from defectline.components.common.errors import StoreError
from defectline.components.common.layout import COUNTS, canonical, crossval_key, run_key
from defectline.components.common.reporting.front_page import rewrite
from defectline.components.common.steps import step
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.metrics import Count, Metrics, summarize

COLUMNS = ("iou", "dice", "image_iou", "region_recall", "image_auroc", "escape", "overkill")
"""Metrics that the table shows."""
NAMED = 20
"""Pictures that are named below it; the reports of the folds show all."""


class FoldRun(NamedTuple):
    """One fold with one seed."""

    seed: int
    snapshot: str
    run: str


class Judged(NamedTuple):
    """All pictures, each judged by the network of its fold, with one seed."""

    seed: int
    counts: list[Count]

    @property
    def metrics(self) -> Metrics:
        return summarize(self.counts, None)


def read_counts(store: Storage, run: str) -> list[Count] | None:
    """Of the fold's test pictures; None where they are not there yet."""
    key = run_key(run, COUNTS)
    if not store.exists(key):
        return None
    return [Count(**row) for row in json.loads(store.read(key))]


def read_judged(store: Storage, folds: Iterable[FoldRun]) -> list[Judged]:
    """Of folds that have all ended, those of a seed one after the other. Raises StoreError for one that has
    not."""
    judged = []
    for seed, some in groupby(folds, key=lambda fold: fold.seed):
        counts: list[Count] = []
        for fold in some:
            found = read_counts(store, fold.run)
            if found is None:
                raise StoreError(
                    "A fold of the cross-validation is missing.",
                    got=f"no {store.url(run_key(fold.run, COUNTS))}",
                    expected="what evaluate wrote",
                    fix="Run the same cross-validation again: what is there is kept.",
                )
            counts += found
        judged.append(Judged(seed, counts))
    return judged


def rows(judged: Sequence[Judged]) -> list[tuple[str, Metrics]]:
    """A title and metrics a row: one a seed, then mean and spread where there are several. Pure.

    The spread is the standard deviation over the seeds.
    """
    metrics = [one.metrics for one in judged]
    found = [(str(one.seed), of) for one, of in zip(judged, metrics, strict=True)]
    if len(judged) > 1:
        found += [
            (title, {name: _over(of, metrics, name) for name in COLUMNS})
            for title, of in (("mean", mean), ("spread", stdev))
        ]
    return found


def _over(
    of: Callable[[list[float]], float], metrics: Sequence[Mapping[str, Any]], name: str
) -> float | None:
    values = [found[name] for found in metrics]
    return None if None in values else float(of(values))


def write_crossval(store: Storage, folds: Sequence[FoldRun], judged: Sequence[Judged], settings: str) -> str:
    """Keep what they came to, and return its key. `settings` are those of all folds, without the seed."""
    found = rows(judged)
    seeds, others = found[: len(judged)], dict(found[len(judged) :])
    content = {
        "settings": canonical(settings),
        "runs": [fold._asdict() for fold in folds],
        "seeds": [{"seed": int(title), **of} for title, of in seeds],
        **others,
    }
    key, data = crossval_key(crossval_id(folds)), json.dumps(content, indent=2).encode()
    # The same again keeps its time.
    if not store.exists(key) or store.read(key) != data:
        store.write(key, data)
        rewrite(store)
    return key


def crossval_id(folds: Iterable[FoldRun]) -> str:
    """The same for the same folds. Pure."""
    return hashlib.sha256(" ".join(fold.run for fold in folds).encode()).hexdigest()[:12]


def name_missed(judged: Judged) -> str:
    """The pictures that were judged wrong, or of which a defect was missed, with their scores; of many the
    first. Pure."""
    missed = [f"{count.id} ({count.score:.2f})" for count in judged.counts if count.missed]
    more = f", and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
    return ", ".join(missed[:NAMED]) + more or "none"


def as_markdown(judged: Sequence[Judged]) -> str:
    """The table, and the pictures that were judged wrong. Pure."""
    titles = ["seed", *(name.replace("_", " ") for name in COLUMNS)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for title, of in rows(judged):
        cells = ["–" if of[name] is None else f"{of[name]:.3f}" for name in COLUMNS]
        lines.append(f"| {' | '.join([title, *cells])} |")
    for one in judged:
        lines += ["", f"Seed {one.seed}, wrong or missed of {len(one.counts)} pictures: {name_missed(one)}"]
    return "\n".join(lines) + "\n"


def collect(store: str, folds: Sequence[FoldRun], settings: str) -> list[Judged]:
    """Read all folds of a cross-validation from the store, and keep what they came to there."""
    with step("collect", store) as report:
        storage = open_storage(store)
        judged = read_judged(storage, folds)
        key = write_crossval(storage, folds, judged, settings)
        report.summary = f"{len(folds)} folds: {storage.url(key)}"
        return judged
