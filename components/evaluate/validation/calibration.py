"""The operating point, which is threshold and min_area_px, from the validation split."""

from collections.abc import Mapping, Sequence
from math import exp, log
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import TOLD_FROM_NOISE, Promise
from defectline.components.common.classes import defect_mask
from defectline.components.common.errors import SourceError
from defectline.components.common.inference.inspection import LEVELS, image_score
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.validation.conformal import Limit

AREAS_PX = (5, 10, 20, 40)
LOWEST, HIGHEST = (round(level * LEVELS) for level in TOLD_FROM_NOISE)
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
BETWEEN = (
    "No single threshold keeps max_escape and max_overkill: between {low:.3f} and {high:.3f} lie the scores "
    "of {inside} of {count} validation pictures."
)
LOOKED_AT = "Such parts are called LOOK, for a person."
CALLED = "Such parts are called {verdict}; with look_as=LOOK a person would look at them."
WHY = (
    "From {low:.3f}{below} to {high:.3f} every threshold does equally well on the validation pictures: "
    "{escapes} of {bad} defective ones escape, {overkills} of {good} good ones are rejected. It lies "
    "{share:.0f} % of the way up, since an escape costs {cost:.3g} overkills (escape_cost): new defects may "
    "be fainter than those seen, and good parts less clean."
)
MOVED = (
    "The cheapest threshold, {cheapest:.3f}, does not keep both promises. Those from {low:.3f} to {high:.3f} "
    "do, and it lies in their middle."
)
OF_NOISE = " (below, noise decides)"
BELOW = "0.05 below the lowest score that can be told from noise"
BEST = "where their outlines fit best (IoU {iou:.2f}) and {escaped} of {count} of them escape"


LookAs = Literal["NG", "OK", "LOOK"]


class OperatingPoint(NamedTuple):
    threshold: float
    min_area_px: int
    ng_from: float | None = None
    """As in Bundle."""
    note: str = ""
    """What to know where the choice had to be made without pictures of one label."""
    promises: tuple[Promise, ...] = ()
    why: str = ""
    """Why the threshold lies where it does."""
    decided_by: tuple[float, ...] = ()
    """The ends of the range that it was chosen from; validation pictures with these scores decided it."""


class Calibrator:
    """Sees pictures one by one and keeps only their scores, so that memory stays flat."""

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self.classes = classes
        self.kinds: list[frozenset[str]] = []
        """Classes of the defects that each picture is known to have."""
        self.labels: list[bool] = []
        self.parts: list[str] = []
        """What each picture shows; pictures of one part count together as one."""
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
        part: str = "",
    ) -> None:
        """Score one validation picture by its score map (H, W), 0 where nothing counts. `cost` is that of its
        escape where it is not the usual one. Where its defects are known, from `truth` (H, W), the numbers of
        classes, only a region that touches one finds them: for another, the threshold is not lowered. `part`
        names what others show as well."""
        self.costs.append(cost)
        self.parts.append(part or f"{len(self.parts)} alone")
        self.labels.append(label == "NG")
        touching = None
        here = () if truth is None else np.unique(truth[defect_mask(truth)])
        self.kinds.append(frozenset(self.classes[n - 1] for n in here if n <= len(self.classes)))
        if truth is not None:
            touching = defect_mask(truth)
            self.pixels.see(score_map, truth)
        self.scores.append(tuple(image_score(score_map, area, touching) for area in AREAS_PX))

    def calibrate(
        self,
        escape_cost: float,
        max_overkill: float = 0.0,
        max_escape: float = 0.0,
        look_as: LookAs = "NG",
        max_escape_of: Mapping[str, float] = MappingProxyType({}),
        parts_per_day: int = 0,
    ) -> OperatingPoint:
        """The operating point with the lowest cost, an escape counting `escape_cost` overkills; of those at
        which both `max_escape` and `max_overkill` can be promised, where there are any. `max_escape_of` has
        limits of single classes, which are to hold as well.

        Where each can be promised by a threshold of its own, but not both by one, the scores between are
        called as `look_as` says: NG keeps `max_escape` alone, OK `max_overkill` alone, LOOK both.

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
            point = _above_the_good(scores, max_overkill)
        elif bad.all():
            point = _among_the_defective(scores, self.pixels, max_escape)
        else:
            point = self._at_lowest_cost(bad, scores, escape_cost)
        return self._keep_promises(point, max_overkill, max_escape, look_as, max_escape_of, parts_per_day)

    def _keep_promises(
        self,
        point: OperatingPoint,
        max_overkill: float,
        max_escape: float,
        look_as: LookAs,
        max_escape_of: Mapping[str, float],
        parts_per_day: int,
    ) -> OperatingPoint:
        """The cheapest point, moved to where what is asked for can be promised, and what can."""
        bad = np.array(self.labels)
        column = np.array(self.scores)[:, AREAS_PX.index(point.min_area_px)]
        cheapest = round(point.threshold * LEVELS)
        parts = np.unique(self.parts, return_inverse=True)[1]
        limits = [Limit("escape", max_escape, column[bad], parts[bad])]
        for name, at_most in max_escape_of.items():
            has = np.array([name in kinds for kinds in self.kinds])
            limits.append(Limit("escape", at_most, column[bad & has], parts[bad & has], name))
        overkill = Limit("overkill", max_overkill, column[~bad], parts[~bad])
        highest = [level for limit in limits if (level := limit.level) is not None]
        ok_below, ng_least = min(highest, default=None), overkill.level
        level, ng_from = cheapest, None
        if band := _between(ok_below, ng_least):
            level, ng_from = {"NG": (band[0], None), "OK": (band[1], None), "LOOK": band}[look_as]
            point = point._replace(note=_tell(band, column, look_as), why="", decided_by=_in_levels(band))
        elif (kept := _both_kept(ok_below, ng_least)) and not kept[0] <= cheapest <= kept[1]:
            level = _middle(*kept)
            low, high = _in_levels(kept)
            why = MOVED.format(cheapest=cheapest / LEVELS, low=low, high=high)
            point = point._replace(why=why, decided_by=(low, high))
        promises = [limit.promise(level, parts_per_day) for limit in limits]
        promises.append(overkill.promise(level if ng_from is None else ng_from, parts_per_day))
        return point._replace(
            threshold=level / LEVELS,
            ng_from=None if ng_from is None else ng_from / LEVELS,
            # That all may be wrong is no promise.
            promises=tuple(p for p in promises if (p.pictures or p.of) and p.at_most < 1),
        )

    def _at_lowest_cost(
        self, bad: NDArray[np.bool_], scores: NDArray[np.int64], escape_cost: float
    ) -> OperatingPoint:
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
            ends = int(levels[widest[0]]), int(levels[widest[-1]])
            wrong = int(escapes[widest[0]]), int(overkills[widest[0]])
            candidates.append((cost.min(), -len(widest), area, int(threshold_level), ends, wrong))
        _, _, area, level, ends, wrong = min(candidates)
        low, high = _in_levels(ends)
        why = WHY.format(
            low=low,
            high=high,
            escapes=wrong[0],
            bad=int(bad.sum()),
            overkills=wrong[1],
            good=int((~bad).sum()),
            share=100 / (1 + escape_cost),
            cost=escape_cost,
            below=OF_NOISE if ends[0] == LOWEST else "",
        )
        return OperatingPoint(level / LEVELS, area, why=why, decided_by=(low, high))


def _between(ok_below: int | None, ng_from: int | None) -> tuple[int, int] | None:
    """The levels between which neither verdict keeps its promise; None where one threshold keeps both, or
    where one promise is kept by noise alone."""
    if ok_below is None or ng_from is None or ng_from <= ok_below or ok_below < LOWEST or ng_from > HIGHEST:
        return None
    return ok_below, ng_from


def _both_kept(ok_below: int | None, ng_from: int | None) -> tuple[int, int] | None:
    """The lowest and highest level at which both promises are kept, and not by noise; None where there are
    none."""
    if ok_below is None or ng_from is None:
        return None
    low, high = max(ng_from, LOWEST), min(ok_below, HIGHEST)
    return (low, high) if low <= high else None


def _middle(low: int, high: int) -> int:
    """The level between both, of logits."""
    mean = sum(log(at / (LEVELS - at)) for at in (low, high)) / 2
    return min(max(round(LEVELS / (1 + exp(-mean))), low), high)


def _in_levels(both: tuple[int, int]) -> tuple[float, float]:
    return both[0] / LEVELS, both[1] / LEVELS


def _tell(band: tuple[int, int], scores: NDArray[np.int64], look_as: LookAs) -> str:
    low, high = band
    inside = int(np.sum((scores >= low) & (scores < high)))
    told = BETWEEN.format(low=low / LEVELS, high=high / LEVELS, inside=inside, count=len(scores))
    return f"{told} {LOOKED_AT if look_as == 'LOOK' else CALLED.format(verdict=look_as)}"


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
    return OperatingPoint(float(levels[column]) / LEVELS, AREAS_PX[column], note=note)


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
    return OperatingPoint(threshold, AREAS_PX[0], note=ONLY_DEFECTIVE.format(where=where))
