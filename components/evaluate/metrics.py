"""Count first, derive after: every number of the gate, the report and the bundle comes from `Count`s."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from defectline.components.common.inspection import Answer

EIGHT = np.ones((3, 3))
"""Neighbourhood of a region: diagonals connect."""
DRAWS = 2000
"""Of the bootstrap."""


class Count(NamedTuple):
    """What happened on one picture."""

    id: str
    label: str
    verdict: str
    score: float
    tp: int
    """Defect pixels that the mask found, of a mask that holds only regions of at least min_area_px."""
    fp: int
    fn: int
    regions: int
    """True defect regions, 8-connected."""
    regions_hit: int
    """Those of which at least one pixel was found."""

    @property
    def missed(self) -> bool:
        """Whether the verdict is wrong, or right for another place than the defect's."""
        return self.verdict != self.label or (self.label == "NG" and not self.tp)


class Interval(NamedTuple):
    low: float
    high: float


def count(id: str, label: str, answer: Answer, truth: NDArray[np.uint8]) -> Count:
    """Compare one answer with the truth, a mask (H, W) of 0 and 1."""
    found, true = answer.mask.astype(bool), truth.astype(bool)
    labels, regions = connected(true, structure=EIGHT)
    hit = np.unique(labels[found & true])
    return Count(
        id,
        label,
        answer.verdict,
        answer.score,
        tp=int(np.count_nonzero(found & true)),
        fp=int(np.count_nonzero(found & ~true)),
        fn=int(np.count_nonzero(~found & true)),
        regions=int(regions),
        regions_hit=len(hit),
    )


def summarize(counts: Sequence[Count]) -> dict[str, float | int | None]:
    """The metrics of a split.

    iou, dice      of the defect class, over the pixels of all pictures together; None without a defect
                   pixel in truth or prediction
    escape         share of NG pictures called OK; None without NG pictures
    overkill       share of OK pictures called NG; None without OK pictures
    image_auroc    of the score, over pictures; None unless both labels are there
    image_ap       average precision of the score; None unless both labels are there
    region_recall  share of true regions of which a pixel was found; None without regions
    """
    tp, fp, fn = (sum(getattr(c, key) for c in counts) for key in ("tp", "fp", "fn"))
    bad = [c for c in counts if c.label == "NG"]
    good = [c for c in counts if c.label == "OK"]
    regions = sum(c.regions for c in counts)
    truth, scores = [c.label == "NG" for c in counts], [c.score for c in counts]
    both = bool(bad and good)
    return {
        "iou": _ratio(tp, tp + fp + fn),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "escape": _ratio(sum(c.verdict == "OK" for c in bad), len(bad)),
        "overkill": _ratio(sum(c.verdict == "NG" for c in good), len(good)),
        "image_auroc": float(roc_auc_score(truth, scores)) if both else None,
        "image_ap": float(average_precision_score(truth, scores)) if both else None,
        "region_recall": _ratio(sum(c.regions_hit for c in counts), regions),
        "ng": len(bad),
        "ok": len(good),
    }


def intervals(counts: Sequence[Count], seed: int = 0) -> dict[str, Interval | None]:
    """95 % intervals: Wilson's for the rates, a bootstrap over pictures for the IoU."""
    bad = [c for c in counts if c.label == "NG"]
    good = [c for c in counts if c.label == "OK"]
    return {
        "iou": _bootstrap_iou(counts, seed),
        "escape": _wilson(sum(c.verdict == "OK" for c in bad), len(bad)),
        "overkill": _wilson(sum(c.verdict == "NG" for c in good), len(good)),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _wilson(hits: int, of: int) -> Interval | None:
    if not of:
        return None
    found = binomtest(hits, of).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high))


def _bootstrap_iou(counts: Sequence[Count], seed: int) -> Interval | None:
    if not counts:
        return None
    pixels = np.array([(c.tp, c.fp, c.fn) for c in counts], np.int64)
    rng = np.random.default_rng(seed)
    # One draw after the other: all at once would take gigabytes for 100,000 pictures.
    draws = [pixels[rng.integers(len(counts), size=len(counts))].sum(axis=0) for _ in range(DRAWS)]
    tp, fp, fn = np.array(draws).T
    whole = tp + fp + fn
    values = (tp / np.maximum(whole, 1))[whole > 0]
    if not len(values):
        return None
    return Interval(*(float(v) for v in np.quantile(values, (0.025, 0.975))))
