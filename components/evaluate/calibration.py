"""The two constants of the verdict, threshold and min_area_px, from the validation split."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.inspection import LEVELS, score_levels

AREAS_PX = (5, 10, 20, 40)
LOWEST, HIGHEST = 50, 950
"""Levels between which the threshold may lie: beyond, a little noise of the network decides."""


class Calibration(NamedTuple):
    threshold: float
    min_area_px: int


class Calibrator:
    """Sees pictures one by one and keeps only counts of them, so that memory stays flat."""

    def __init__(self) -> None:
        self.labels: list[bool] = []
        self.scores: list[tuple[int, ...]] = []
        self.found = np.zeros(LEVELS + 2, np.int64)
        self.false = np.zeros(LEVELS + 2, np.int64)

    def see(self, label: str, levels: NDArray[np.uint16], truth: NDArray[np.uint8]) -> None:
        """Count one validation picture: its levels (H, W) and its true mask (H, W)."""
        self.labels.append(label == "NG")
        self.scores.append(tuple(score_levels(levels, area) for area in AREAS_PX))
        true = truth.astype(bool)
        self.found += np.bincount(levels[true], minlength=LEVELS + 2)
        self.false += np.bincount(levels[~true], minlength=LEVELS + 2)

    def calibrate(self, escape_cost: float = 1.0) -> Calibration:
        """The constants with the fewest wrong verdicts, an escape counting `escape_cost` overkills.

        Among equals the highest pixel IoU decides, then the widest gap between the scores of good and
        defective pictures, then the smaller area; of thresholds that do equally well the middle one is
        taken. Without defective pictures that is a threshold above every score.
        """
        bad = np.array(self.labels)
        scores = np.array(self.scores)
        cuts = np.arange(LOWEST, HIGHEST + 1)
        found = self.found[::-1].cumsum()[::-1]
        false = self.false[::-1].cumsum()[::-1]
        iou = (found / np.maximum(found[0] + false, 1))[cuts]
        best = None
        for column, area in enumerate(AREAS_PX):
            score = scores[:, column]
            escapes = (score[bad, None] < cuts).sum(axis=0)
            overkills = (score[~bad, None] >= cuts).sum(axis=0)
            gap = score[bad].min(initial=LEVELS) - score[~bad].max(initial=0)
            cost = escape_cost * escapes + overkills
            first = np.lexsort((-iou, cost))[0]
            equal = np.flatnonzero((cost == cost[first]) & (iou == iou[first]))
            index = equal[len(equal) // 2]
            rank = (cost[index], -iou[index], -gap, area)
            if best is None or rank < best[0]:
                best = rank, Calibration(float(cuts[index]) / LEVELS, area)
        assert best is not None
        return best[1]
