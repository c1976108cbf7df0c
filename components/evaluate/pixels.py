"""All pixels of a split as two histograms of levels, so that memory stays flat however many pictures."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from defectline.components.common.classes import GOOD, defect_mask
from defectline.components.common.inference.inspection import LEVELS

BINS = 10
"""Of the reliability curve."""


class Bin(NamedTuple):
    """One point of the reliability curve: pixels whose probability lies in the same tenth."""

    predicted: float
    """Mean probability that the network gave them."""
    observed: float
    """Share of them that is defective."""
    pixels: int


class Pixels:
    """Counts of good and of defective pixels at each level from 0 to LEVELS."""

    def __init__(self) -> None:
        self.levels = np.arange(LEVELS + 1)
        self.good = np.zeros(LEVELS + 1, np.int64)
        self.bad = np.zeros(LEVELS + 1, np.int64)

    def see(self, score_map: NDArray[np.uint16], truth: NDArray[np.uint8]) -> None:
        """Add one picture's score map (H, W) with its mask (H, W) of the numbers of classes."""
        self.bad += np.bincount(score_map[defect_mask(truth)], minlength=LEVELS + 1)
        self.good += np.bincount(score_map[truth == GOOD], minlength=LEVELS + 1)

    def add(self, other: Self) -> None:
        """Add the pixels of other pictures."""
        self.good += other.good
        self.bad += other.bad

    def average_precision(self) -> float | None:
        """Mean precision over the defect pixels, each at the level that just finds it; pixels of one level
        are found together. A network that knows nothing gets the share of defect pixels. None without a
        defect pixel."""
        if not self.bad.any():
            return None
        truth = np.repeat((0, 1), LEVELS + 1)
        pixels = np.concatenate([self.good, self.bad])
        return float(average_precision_score(truth, np.tile(self.levels, 2), sample_weight=pixels))

    def best_level(self, lowest: int, highest: int) -> tuple[int, float]:
        """The level from `lowest` to `highest` at which found and true defect pixels overlap best, the lowest
        of several, and their IoU. There must be a defect pixel."""
        bad, good = (np.cumsum(pixels[::-1])[::-1] for pixels in (self.bad, self.good))
        ious = bad / (bad[0] + good)
        level = lowest + int(np.argmax(ious[lowest : highest + 1]))
        return level, float(ious[level])

    def reliability(self) -> list[Bin]:
        """What probabilities are worth: for each tenth that holds a pixel, from low to high."""
        tenth = np.minimum(self.levels * BINS // LEVELS, BINS - 1)
        both = self.good + self.bad
        bins = []
        for index in range(BINS):
            here = tenth == index
            if pixels := int(both[here].sum()):
                predicted = float((self.levels * both)[here].sum() / pixels / LEVELS)
                bins.append(Bin(predicted, float(self.bad[here].sum() / pixels), pixels))
        return bins
