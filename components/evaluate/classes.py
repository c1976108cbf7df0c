"""What happened to each class of defects, and what must not be looked at because nothing counts there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected

from defectline.components.common.classes import GOOD, IGNORE, defect_mask
from defectline.components.common.inference.inspection import Answer

EIGHT = np.ones((3, 3))
"""Neighbourhood of a region: diagonals connect."""
LEAST = 5
"""Test pictures of a class from which its numbers say something."""


class ClassCounts(NamedTuple):
    """What happened on one picture, each field by class where it has K numbers."""

    tp: Sequence[int]
    """Pixels of the class that the mask found as such."""
    fp: Sequence[int]
    fn: Sequence[int]
    regions: Sequence[tuple[int, int]]
    """True and found class of each true region of one class, GOOD where nothing of it was found; then GOOD
    and the class of each region that was found where nothing is."""

    def has(self, number: int) -> bool:
        """Whether the truth has the class with this number."""
        return bool(self.tp[number - 1] or self.fn[number - 1])


class ClassMetrics(NamedTuple):
    """Of one class over the pictures of a split; None where there is nothing to take a number over."""

    pictures: int
    """Those with a defect of the class."""
    escape: float | None
    """Share of them that were called OK."""
    iou: float | None
    """Of the pixels of the class, all pictures together."""
    regions: int
    region_recall: float | None
    """Share of the regions of which a pixel was found, as whatever class."""
    region_class: float | None
    """Share of the regions that were found, which were found as this class."""

    @property
    def rare(self) -> bool:
        return self.pictures < LEAST


def count_classes(answer: Answer, truth: NDArray[np.uint8], classes: Sequence[str]) -> ClassCounts:
    """Compare one answer with the truth (H, W)."""
    numbers = range(1, 1 + len(classes))
    regions = []
    for number in numbers:
        labels, count = connected(truth == number, structure=EIGHT)
        for index in range(1, 1 + count):
            regions.append((number, _most(answer.mask[labels == index])))
    labels, count = connected(answer.mask > 0, structure=EIGHT)
    touched = np.unique(labels[defect_mask(truth)])
    for index in sorted({*range(1, 1 + count)} - {*touched.tolist()}):
        regions.append((GOOD, _most(answer.mask[labels == index])))

    def pixels(found: bool, true: bool) -> tuple[int, ...]:
        return tuple(
            int(np.count_nonzero(((answer.mask == n) == found) & ((truth == n) == true))) for n in numbers
        )

    return ClassCounts(pixels(True, True), pixels(True, False), pixels(False, True), regions)


def _most(found: NDArray[np.uint8]) -> int:
    found = found[found > 0]
    return int(np.bincount(found).argmax()) if len(found) else GOOD


def summarize_class(counts: Sequence[tuple[ClassCounts, bool]], number: int) -> ClassMetrics:
    """The metrics of the class with this number, from each picture's counts and whether it was called OK."""
    of_class = [passed for count, passed in counts if count.has(number)]
    tp, fp, fn = (sum(getattr(count, key)[number - 1] for count, _ in counts) for key in ("tp", "fp", "fn"))
    found = [pair[1] for count, _ in counts for pair in count.regions if pair[0] == number]
    hit = [other for other in found if other != GOOD]
    return ClassMetrics(
        pictures=len(of_class),
        escape=_share(sum(of_class), len(of_class)),
        iou=_share(tp, tp + fp + fn),
        regions=len(found),
        region_recall=_share(len(hit), len(found)),
        region_class=_share(sum(other == number for other in hit), len(hit)),
    )


def confusion_of_regions(counts: Sequence[ClassCounts], classes: Sequence[str]) -> list[list[int]]:
    """Rows: what a region is, from good on; columns: as what it was found, good meaning missed."""
    table = np.zeros((1 + len(classes), 1 + len(classes)), np.int64)
    for count in counts:
        for true, found in count.regions:
            table[true, found] += 1
    return table.tolist()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def disregard(
    score_map: NDArray[np.uint16], truth: NDArray[np.uint8], level: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Score map and truth (H, W) as they are judged: 0 in the one where the other does not count.

    A region at `level` (in thousandths) that lies mostly where nothing counts, and has no true defect, counts
    nowhere.
    """
    ignored = truth == IGNORE
    if not ignored.any():
        return score_map, truth
    labels, _ = connected(score_map >= max(level, 1), structure=EIGHT)
    flat = labels.ravel()
    areas, hidden, defects = (
        np.bincount(flat, weights) for weights in (None, ignored.ravel(), defect_mask(truth).ravel())
    )
    mostly = (2 * hidden > areas) & (defects == 0)
    mostly[0] = False
    truth = np.where(mostly[labels], IGNORE, truth).astype(np.uint8)
    return np.where(truth == IGNORE, 0, score_map).astype(np.uint16), truth
