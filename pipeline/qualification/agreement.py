"""How far verdicts agree: the numbers of an attribute agreement analysis, as in AIAG's Measurement Systems
Analysis, 4th edition, chapter III C. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from scipy.stats import beta

CERTAINTY = 0.95
Level = Literal["acceptable", "marginal", "not acceptable", "not known"]
LIMITS: dict[str, tuple[float, float]] = {
    "effectiveness": (0.90, 0.80),
    "miss rate": (0.02, 0.05),
    "false alarm rate": (0.05, 0.10),
}
"""Acceptable and marginal, of each: AIAG's table."""


class Share(NamedTuple):
    """So many of so many, and within which limits the true rate lies with a certainty of 95 %."""

    number: int
    of: int

    @property
    def rate(self) -> float | None:
        return self.number / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Clopper's and Pearson's, which is exact."""
        if not self.of:
            return None
        tail = (1 - CERTAINTY) / 2
        low = beta.ppf(tail, self.number, self.of - self.number + 1) if self.number else 0.0
        high = beta.ppf(1 - tail, self.number + 1, self.of - self.number) if self.number < self.of else 1.0
        return float(low), float(high)

    @property
    def at_most(self) -> float | None:
        """The rate that is not exceeded, with a certainty of 95 %."""
        if not self.of:
            return None
        return (
            float(beta.ppf(CERTAINTY, self.number + 1, self.of - self.number))
            if self.number < self.of
            else 1.0
        )


class Agreement(NamedTuple):
    """Of verdicts with the truth, by parts: pictures of one part are not independent."""

    effectiveness: Share
    """Parts of which every verdict is right."""
    misses: Share
    """Defective parts of which some verdict is OK."""
    false_alarms: Share
    """Good parts of which some verdict is NG."""
    repeated: Share
    """Parts of several verdicts, all of which are the same."""
    kappa: float | None
    """Cohen's, over all verdicts and the truth."""

    @property
    def levels(self) -> dict[str, Level]:
        rates = (self.effectiveness.rate, self.misses.rate, self.false_alarms.rate)
        return {name: level(name, rate) for name, rate in zip(LIMITS, rates, strict=True)}


def level(name: str, rate: float | None) -> Level:
    """Where a rate lies among LIMITS."""
    if rate is None:
        return "not known"
    acceptable, marginal = LIMITS[name]
    sign = 1 if acceptable > marginal else -1
    if sign * rate >= sign * acceptable:
        return "acceptable"
    return "marginal" if sign * rate >= sign * marginal else "not acceptable"


def agree(parts: Sequence[tuple[str, Sequence[str]]]) -> Agreement:
    """Of each part its truth, and what was said of its pictures; parts of which nothing was said are left
    out."""
    told = [(truth, said) for truth, said in parts if said]
    bad = [said for truth, said in told if truth == "NG"]
    good = [said for truth, said in told if truth == "OK"]
    several = [said for _, said in told if len(said) > 1]
    pairs = [(truth, one) for truth, said in told for one in said]
    return Agreement(
        Share(sum({*said} == {truth} for truth, said in told), len(told)),
        Share(sum("OK" in said for said in bad), len(bad)),
        Share(sum("NG" in said for said in good), len(good)),
        Share(sum(len({*said}) == 1 for said in several), len(several)),
        cohen(pairs),
    )


def cohen(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two who judged the same: 1 all alike, 0 as by chance. None where nothing can be said,
    since both always say the same one thing, or there is nothing."""
    if not pairs:
        return None
    first, second = (Counter(one[side] for one in pairs) for side in (0, 1))
    chance = sum(first[name] * second[name] for name in first) / len(pairs) ** 2
    if chance == 1:
        return None
    alike = sum(one == other for one, other in pairs) / len(pairs)
    return (alike - chance) / (1 - chance)


def parts_needed(rate: float) -> int:
    """How many defective parts must be tried, and none missed, to say with a certainty of 95 % that at most
    this share of them escapes; `rate` is above 0 and below 1."""
    return math.ceil(math.log(1 - CERTAINTY) / math.log(1 - rate))
