"""Which frames of a day are kept for review: those of most worth, not the first."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from defectline.components.common.bundle import Bundle
from defectline.components.common.inference.inspection import judge_score
from defectline.components.common.inference.novelty import Features
from defectline.components.common.prediction import Verdict
from defectline.components.common.review import Reason

LEAST = 0.0005
"""Half a step of a score, which has no logit at 0 and 1."""
WITHOUT_SCORES = 0.5
"""Least worth for bundles that do not say what validation pictures scored."""
RANDOM_PART = 0.1
"""Of a day's places, for frames that were chosen by chance."""
NOVEL_PART = 0.2
"""For frames that are unlike the training pictures."""


LARGE = 0.5
"""Of a frame, which a defect rarely covers."""


def worth(score: float, bundle: Bundle, margin: float, area_ratio: float = 0.0) -> float | None:
    """What looking at a frame with this score would teach, from 0 to 1; None where that is nothing new.

    A frame is in doubt where at most a share of `margin` of the validation pictures with the same verdict lie
    as near to the level that decides, where its verdict is LOOK, or where most of it (`area_ratio`) is called
    defective. Among those in doubt the distance to the level counts, in logits. A good part that scores as
    good ones do is far from any level, however near the level itself is to 0.
    """
    verdict = judge_score(score, bundle.threshold, bundle.ng_from)
    if verdict == "LOOK":
        return 1.0
    if area_ratio > LARGE:
        return area_ratio
    level = bundle.threshold if verdict == "OK" or bundle.ng_from is None else bundle.ng_from
    value = 1 / (1 + abs(_logit(score) - _logit(level)))
    if not bundle.validation_scores:
        return value if value >= WITHOUT_SCORES else None
    alike = bundle.validation_scores.get(verdict, ())
    nearer = sum(other >= score if verdict == "OK" else other <= score for other in alike)
    return value if nearer <= margin * len(alike) else None


def _logit(score: float) -> float:
    inside = min(max(score, LEAST), 1 - LEAST)
    return math.log(inside / (1 - inside))


class Kept(NamedTuple):
    reason: Reason
    verdict: Verdict
    worth: float
    decided: bool = False
    """Whether a person has looked at it: it stays."""
    features: Features | None = None
    """(1, C), of a novel one."""

    @property
    def kind(self) -> str:
        """Frames that are compared by their worth."""
        if self.reason in ("random", "novel"):
            return self.reason
        # Most parts are good: those in doubt among the few others would never come first.
        return "doubted OK" if self.verdict == "OK" else "doubted NG"


class Places:
    """The frames of one day, by their ids; so many at most. A tenth of the places is for frames by chance, a
    fifth for novel ones, and of the rest one half for each verdict; what one of these does not need, the
    others have."""

    def __init__(self, total: int, kept: Mapping[str, Kept] | None = None):
        by_chance, novel = int(total * RANDOM_PART), int(total * NOVEL_PART)
        rest = total - by_chance - novel
        self._total = total
        self._quota = {
            "random": by_chance,
            "novel": novel,
            "doubted OK": rest // 2,
            "doubted NG": rest - rest // 2,
        }
        self.kept = dict(kept or {})

    @property
    def novel(self) -> list[Features]:
        """What the novel frames look like."""
        return [one.features for one in self.kept.values() if one.features is not None]

    def make_room(self, frame: Kept) -> str | None:
        """The id of the frame that has to go for a new one, "" where there is room; None where the new one
        is worth no more than those that are there."""
        if len(self.kept) < self._total:
            return ""
        over = Counter(one.kind for one in self.kept.values())
        over.subtract(self._quota)
        for kind in [frame.kind] if over[frame.kind] >= 0 else sorted(over, key=lambda kind: -over[kind]):
            worths = {id: one.worth for id, one in self.kept.items() if one.kind == kind and not one.decided}
            if worths and over[kind] >= 0:
                least = min(worths, key=worths.__getitem__)
                return least if kind != frame.kind or worths[least] < frame.worth else None
        return None
