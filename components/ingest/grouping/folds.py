"""Cross-validation: who is judged in which fold.

A test split of a few pictures says little of a recipe. Here the parts of each label, in the order of
their ids, are dealt out to folds: each fold is the test split of one training, and every fifth of the others
its validation split. Pictures of one group stay together.
"""

from collections.abc import Collection, Sequence

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.snapshot import (
    SPLITS,
    Pair,
    publish_snapshot,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.ingest.grouping.groups import TOO_FEW_PARTS, without_twins

VALIDATION = 5
"""Every fifth part that is not in the fold chooses epoch and threshold."""


def publish_folds(
    store: Storage, whole: str, folds: int, say: Say, splits: Collection[str] = SPLITS
) -> list[str]:
    """A snapshot a fold, of the pictures of the snapshot `whole` that are in these splits of it.

    Returns their ids. Raises SettingsError where there are too few pictures.
    """
    pairs = [pair for pair in read_pairs(store, whole) if pair.accepted and pair.split in splits]
    taken = read_snapshot(store, whole)
    return [
        publish_snapshot(store, rows, taken.source, taken.classes, taken.class_map).id
        for rows in deal_all(pairs, folds, say)
    ]


def deal_all(pairs: Sequence[Pair], folds: int, say: Say) -> list[list[Pair]]:
    """As `deal`, for every fold; looks alone never leave too few parts: such pictures then stand alone."""
    try:
        return [deal(pairs, fold, folds) for fold in range(folds)]
    except SettingsError:
        alone = without_twins(pairs)
        if alone == list(pairs):
            raise
        dealt = [deal(alone, fold, folds) for fold in range(folds)]
        say(TOO_FEW_PARTS)
        return dealt


def deal(pairs: Sequence[Pair], fold: int, folds: int) -> list[Pair]:
    """The pairs with their splits in one fold, from 0 to folds - 1. Pure."""
    rows = []
    for label, parts in _parts(pairs).items():
        if label == "OK" and not parts:
            # A source may have none: then nothing can be said of overkill.
            continue
        pictures = [0] * folds
        others = []
        for part in parts:
            # The fold that has fewest so far: one after another, where every picture stands alone.
            dealt = pictures.index(min(pictures))
            pictures[dealt] += len(part)
            if dealt == fold:
                rows += [pair._replace(split="test") for pair in part]
            else:
                others.append(part)
        if len(parts) < folds or len(others) <= VALIDATION:
            raise SettingsError(
                f"There are too few {label} pictures for {folds} folds.",
                got=f"{sum(map(len, parts))} {label} pictures of {len(parts)} parts",
                expected=f"at least one part a fold, and more than {VALIDATION} in the others",
                fix="Bring more pictures, or take fewer folds.",
            )
        for index, part in enumerate(others):
            split = "validation" if index % VALIDATION == VALIDATION // 2 else "train"
            rows += [pair._replace(split=split) for pair in part]
    return sorted(rows)


def _parts(pairs: Sequence[Pair]) -> dict[str, list[list[Pair]]]:
    """Labels to parts with their pictures, both in the order of ids; a part with a defect is NG."""
    parts: dict[tuple[str, str], list[Pair]] = {}
    for pair in sorted(pairs):
        parts.setdefault((pair.group, "" if pair.group else pair.id), []).append(pair)
    of_label: dict[str, list[list[Pair]]] = {label: [] for label in LABELS}
    for part in parts.values():
        of_label["NG" if any(pair.label == "NG" for pair in part) else "OK"].append(part)
    return of_label
