"""The deal step: the folds of a cross-validation as snapshots, and what their runs are called."""

from collections.abc import Sequence
from typing import Any

from defectline.components.common.layout import fold_run
from defectline.components.common.steps import Say, say, step
from defectline.components.common.storage import Storage, open_storage
from defectline.components.ingest.grouping.folds import publish_folds


def deal(store: str, snapshot: str, folds: int, seeds: Sequence[int], settings: str) -> list[dict[str, Any]]:
    """Publish the folds; returns `seed`, `snapshot`, `run` and, in words, `part` of each fold with each seed.

    `settings` are all that the results depend on but the seed. Raises SettingsError where there are too few
    pictures.
    """
    with step("deal", store) as report:
        report.summary = f"{folds} folds, {len(seeds)} seeds"
        found = deal_out(open_storage(store), snapshot, folds, seeds, settings, say)
        return [{**one, "part": f"fold {1 + n % folds} of {folds}"} for n, one in enumerate(found)]


def deal_out(
    store: Storage, snapshot: str, folds: int, seeds: Sequence[int], settings: str, say: Say
) -> list[dict[str, Any]]:
    """The same within another step, without `part`."""
    snapshots = publish_folds(store, snapshot, folds, say)
    return [
        {"seed": seed, "snapshot": fold, "run": fold_run(fold, f"{settings} seed={seed}")}
        for seed in seeds
        for fold in snapshots
    ]
