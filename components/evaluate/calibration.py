"""The operating point, which is threshold and min_area_px, from the validation split."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import defect_mask
from defectline.components.common.errors import SourceError
from defectline.components.common.inference.inspection import LEVELS, image_score
from defectline.components.evaluate.pixels import Pixels

AREAS_PX = (5, 10, 20, 40)
LOWEST, HIGHEST = 50, 950
"""Levels between which the threshold may lie: beyond, a little noise of the network decides."""
MARGIN = 50
"""Levels between the threshold and the nearest score, where there are pictures of one label only."""
EVEN = 500
"""Where a network that weighs both classes alike changes its mind."""

ONLY_GOOD = (
    "There were only good validation pictures, so the threshold lies where {rejected} of {count} of them are "
    "rejected: how many defective parts escape at it is not known."
)
ONLY_DEFECTIVE = (
    "There were only defective validation pictures, so the threshold lies {where}: how many good parts are "
    "rejected at it was not looked at before the test."
)
BELOW = "0.05 below the lowest score that can be told from noise"
BEST = "where their outlines fit best (IoU {iou:.2f}) and {escaped} of {count} of them escape"


class OperatingPoint(NamedTuple):
    threshold: float
    min_area_px: int
    note: str = ""
    """What to know where the choice had to be made without pictures of one label."""


class Calibrator:
    """Sees pictures one by one and keeps only their scores, so that memory stays flat."""

    def __init__(self) -> None:
        self.labels: list[bool] = []
        self.scores: list[tuple[int, ...]] = []
        self.costs: list[float | None] = []
        self.pixels = Pixels()
        """Of the defective pictures that have a mask."""

    def see(
        self,
        label: str,
        score_map: NDArray[np.uint16],
        cost: float | None = None,
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        """Score one validation picture by its score map (H, W), 0 where nothing counts. `cost` is that of its
        escape where it is not the usual one. Where its defects are known, from `truth` (H, W), the numbers of
        classes, only a region that touches one finds them: for another, the threshold is not lowered."""
        self.costs.append(cost)
        self.labels.append(label == "NG")
        touching = None
        if truth is not None:
            touching = defect_mask(truth)
            self.pixels.see(score_map, truth)
        self.scores.append(tuple(image_score(score_map, area, touching) for area in AREAS_PX))

    def calibrate(
        self, escape_cost: float, max_overkill: float = 0.0, max_escape: float = 0.0
    ) -> OperatingPoint:
        """The operating point with the lowest cost, an escape counting `escape_cost` overkills.

        Of neighbouring thresholds that do equally well, the one is taken that lies nearer to the good
        pictures by the same ratio: the defects to come are also fainter than those seen, and the good
        pictures more lively. Among areas that do equally well the one with the widest such range wins,
        then the smaller one. Good pictures only give a threshold at which half of `max_overkill` of them are
        rejected, since new ones differ, and a note; defective ones only that at which their outlines fit best
        while half of `max_escape` of them escape, or below them where none has a mask. Raises SourceError
        where there is no picture at all.
        """
        if not self.labels:
            raise SourceError(
                "There is no validation picture to choose the threshold on.",
                got="none in the split validation",
                expected="some of both labels",
                fix="Add pictures, or list some as validation in splits.csv.",
            )
        bad, scores = np.array(self.labels), np.array(self.scores)
        if not bad.any():
            return _above_the_good(scores, max_overkill)
        if bad.all():
            return _among_the_defective(scores, self.pixels, max_escape)
        levels = np.arange(LOWEST, HIGHEST + 1)
        candidates = []
        for column, area in enumerate(AREAS_PX):
            escapes = (scores[bad, column, None] < levels).sum(axis=0)
            overkills = (scores[~bad, column, None] >= levels).sum(axis=0)
            cost = escape_cost * escapes + overkills
            if any(own is not None for own in self.costs):
                each = np.array([escape_cost if own is None else own for own in self.costs])[bad]
                cost = ((scores[bad, column, None] < levels) * each[:, None]).sum(axis=0) + overkills
            best = np.flatnonzero(cost == cost.min())
            widest = max(np.split(best, np.flatnonzero(np.diff(best) > 1) + 1), key=len)
            threshold_level = levels[widest[int((len(widest) - 1) / (1 + escape_cost))]]
            candidates.append((cost.min(), -len(widest), area, float(threshold_level) / LEVELS))
        _, _, area, threshold = min(candidates)
        return OperatingPoint(threshold, area)


def _above_the_good(scores: NDArray[np.int64], max_overkill: float) -> OperatingPoint:
    """The smallest area at which the good pictures (N, areas), but for those that may be rejected, stay below
    an even threshold; where none does, the one with the lowest."""
    count = len(scores)
    may_be = min(int(max_overkill / 2 * (count + 1)), count - 1)
    highest = np.sort(scores, axis=0)[count - 1 - may_be]
    levels = np.clip(highest + (1 if may_be else MARGIN), LOWEST, HIGHEST)
    column = min(range(len(AREAS_PX)), key=lambda c: (max(levels[c], EVEN), AREAS_PX[c]))
    rejected = int(np.sum(scores[:, column] >= levels[column]))
    note = ONLY_GOOD.format(rejected=rejected, count=count)
    return OperatingPoint(float(levels[column]) / LEVELS, AREAS_PX[column], note)


def _among_the_defective(scores: NDArray[np.int64], pixels: Pixels, max_escape: float) -> OperatingPoint:
    """The smallest area, which gives every picture (N, areas) its highest score; those that no threshold
    finds do not count."""
    own = np.sort(scores[:, 0])
    lost = int(np.sum(own < LOWEST))
    if not pixels.bad.any():
        return _only_defective(own[lost:].min(initial=LEVELS) - MARGIN, BELOW)
    may_be = max(lost, int(max_escape / 2 * len(own)))
    highest = own[may_be] - MARGIN if may_be < len(own) else HIGHEST
    level, iou = pixels.best_level(LOWEST, int(np.clip(highest, LOWEST, HIGHEST)))
    escaped = int(np.sum(own < level))
    return _only_defective(level, BEST.format(iou=iou, escaped=escaped, count=len(own)))


def _only_defective(level: int, where: str) -> OperatingPoint:
    threshold = float(np.clip(level, LOWEST, HIGHEST)) / LEVELS
    return OperatingPoint(threshold, AREAS_PX[0], ONLY_DEFECTIVE.format(where=where))
