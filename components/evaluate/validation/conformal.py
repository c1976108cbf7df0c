"""Rates of wrong verdicts that can be promised, whatever the distribution of scores is.

Several pictures of one part say less than as many parts. So a part counts as one, and is wrong by the share
of its pictures that is; the rate that is promised is that of parts like those.
"""

from math import ceil, e, floor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from defectline.components.common.bundle import ROUNDING, TOLD_FROM_NOISE, Promise, allowed_wrong
from defectline.components.common.inference.inspection import LEVELS

UNSURE = 0.05
"""The probability with which a rate of `certain_rate` is exceeded at most."""


def highest_ok(bad: NDArray[np.int64], at_most: float, parts: NDArray[np.int64] | None = None) -> int | None:
    """The highest level up to which a threshold lets at most a share of `at_most` of defective parts escape.

    That is to be expected of parts like those with the scores `bad` (N,) of pictures, each of another part
    or of those with the numbers `parts` (N,); None where these are too few.

    Conformal risk control (A. Angelopoulos and others, 2022, theorem 1): where the losses of N exchangeable
    parts, each from 0 to 1, add up to k below a level, that of the next one is expected to be at most
    (k + 1) / (N + 1).
    """
    if allowed_wrong(_count(bad, parts), at_most) < 0:
        return None
    first = _first_beyond(bad, at_most, parts)
    return LEVELS if first is None else int(bad[first])


def lowest_ng(good: NDArray[np.int64], at_most: float, parts: NDArray[np.int64] | None = None) -> int | None:
    """The lowest level from which on a threshold rejects at most a share of `at_most` of good parts; the rest
    as in `highest_ok`."""
    if allowed_wrong(_count(good, parts), at_most) < 0:
        return None
    first = _first_beyond(-good, at_most, parts)
    return 0 if first is None else int(good[first]) + 1


def certain_rate(count: int, at_most: float, several: bool = False) -> float | None:
    """The rate that is exceeded with a probability of 5 % at most where `at_most` is promised on so many
    parts, `several` of which may have more than one picture; None where it cannot be.

    The share of all parts below the k-th lowest of N scores has the distribution Beta(k, N - k + 1), whatever
    that of the scores is (S. Wilks, Determination of sample sizes for setting tolerance limits, 1941). For
    losses between 0 and 1 a tail is at most e times that of the binomial distribution (V. Bentkus, On
    Hoeffding's inequalities, 2004; S. Bates and others, Distribution-free, risk-controlling prediction sets,
    2021).
    """
    allowed = allowed_wrong(count, at_most)
    if allowed < 0:
        return None
    wrong = ceil(allowed - 2 * ROUNDING) if several else floor(allowed)
    unsure = UNSURE / e if several else UNSURE
    return 1.0 if wrong >= count else float(beta.ppf(1 - unsure, wrong + 1, count - wrong))


def _count(scores: NDArray[np.int64], parts: NDArray[np.int64] | None) -> int:
    return len(scores if parts is None else np.unique(parts))


def _first_beyond(scores: NDArray[np.int64], at_most: float, parts: NDArray[np.int64] | None) -> int | None:
    """The index of the picture with which, from the lowest of the `scores` (N,) on, more would be wrong than
    may be; None where all may be."""
    weights = np.ones(len(scores))
    if parts is not None:
        _, part, pictures = np.unique(parts, return_inverse=True, return_counts=True)
        weights = 1 / pictures[part]
    order = np.argsort(scores, kind="stable")
    beyond = np.flatnonzero(np.cumsum(weights[order]) > allowed_wrong(_count(scores, parts), at_most))
    return int(order[beyond[0]]) if len(beyond) else None


class Limit(NamedTuple):
    """A rate that is to be promised."""

    rate: Literal["escape", "overkill"]
    at_most: float
    scores: NDArray[np.int64]
    """(N,), of the validation pictures that it is about."""
    parts: NDArray[np.int64]
    """(N,), the number of the part that each shows."""
    of: str = ""
    """The class, where it is about one."""

    @property
    def level(self) -> int | None:
        choose = highest_ok if self.rate == "escape" else lowest_ng
        return choose(self.scores, self.at_most, self.parts)

    def promise(self, at: int, parts_per_day: int) -> Promise:
        """Whether it is kept by a verdict that changes at the level `at`."""
        level = self.level
        kept = level is not None and (at <= level if self.rate == "escape" else at >= level)
        count = len(np.unique(self.parts))
        several = count < len(self.scores)
        low, high = (limit * LEVELS for limit in TOLD_FROM_NOISE)
        noise = self.scores < low if self.rate == "escape" else self.scores >= high
        return Promise(
            rate=self.rate,
            of=self.of,
            at_most=self.at_most,
            pictures=len(self.scores),
            parts=count if several else None,
            level=None if level is None else min(level, LEVELS) / LEVELS,
            holds=kept,
            certain=certain_rate(count, self.at_most, several),
            noise=int(np.sum(noise)),
            parts_per_day=parts_per_day,
        )
