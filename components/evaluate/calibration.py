"""The two constants of the verdict, threshold and min_area_px, from the validation split."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.inspection import LEVELS, score_levels

AREAS_PX = (5, 10, 20, 40)
LOWEST, HIGHEST = 50, 950
"""Levels between which the threshold may lie: beyond, a little noise of the network decides."""

ESCAPE_COST = 3.0
"""How many good parts thrown away are as bad as one defective part let through."""


class Calibration(NamedTuple):
    threshold: float
    min_area_px: int


class Calibrator:
    """Sees pictures one by one and keeps only their scores, so that memory stays flat."""

    def __init__(self) -> None:
        self.labels: list[bool] = []
        self.scores: list[tuple[int, ...]] = []

    def see(self, label: str, levels: NDArray[np.uint16]) -> None:
        """Score one validation picture by its levels (H, W)."""
        self.labels.append(label == "NG")
        self.scores.append(tuple(score_levels(levels, area) for area in AREAS_PX))

    def calibrate(self, escape_cost: float = ESCAPE_COST) -> Calibration:
        """The constants with the fewest wrong verdicts, an escape counting `escape_cost` overkills.

        Of neighbouring thresholds that do equally well, the one is taken that lies nearer to the good
        pictures by the same ratio: the defects to come are also fainter than those seen, and the good
        pictures more lively. Among areas that do equally well the one with the widest such range wins,
        then the smaller one.
        """
        bad = np.array(self.labels)
        scores = np.array(self.scores)
        cuts = np.arange(LOWEST, HIGHEST + 1)
        candidates = []
        for column, area in enumerate(AREAS_PX):
            escapes = (scores[bad, column, None] < cuts).sum(axis=0)
            overkills = (scores[~bad, column, None] >= cuts).sum(axis=0)
            cost = escape_cost * escapes + overkills
            best = np.flatnonzero(cost == cost.min())
            widest = max(np.split(best, np.flatnonzero(np.diff(best) > 1) + 1), key=len)
            cut = cuts[widest[int((len(widest) - 1) / (1 + escape_cost))]]
            candidates.append((cost.min(), -len(widest), area, float(cut) / LEVELS))
        _, _, area, threshold = min(candidates)
        return Calibration(threshold, area)
