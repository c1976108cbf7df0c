"""Count first, derive after: every number of the gate, the report and the bundle comes from `Count`s, and
from the histograms of `pixels.Pixels`."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from defectline.components.common.classes import LABELS, defect_mask
from defectline.components.common.inference.inspection import GRADES, Answer, Grades, grade
from defectline.components.common.prediction import VERDICTS
from defectline.components.evaluate.classes import (
    EIGHT,
    ClassCounts,
    ClassMetrics,
    count_classes,
    summarize_class,
)
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.settings import Costs

SIZES = {"small": 64, "medium": 256, "large": None}
"""Classes of true regions, each below this many pixels."""
SPREAD = 200
"""Scores of a label that say how they lie."""
DRAWS = 2000
"""Of the bootstrap."""

Metrics = dict[str, float | int | None]


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
    regions: tuple[int, ...]
    """True defect regions, 8-connected, of each class of SIZES."""
    regions_hit: tuple[int, ...]
    """Those of which at least one pixel was found."""
    classes: ClassCounts | None = None
    """Where there are several classes."""
    masked: bool = True
    """False where it is NG and has no mask: `fp` is then all that was found, and the other numbers are 0."""

    @property
    def wrong(self) -> bool:
        """An escape or an overkill; what a person is asked to look at is neither."""
        return self.verdict not in (self.label, "LOOK")

    @property
    def missed(self) -> bool:
        """Whether the verdict is wrong, or right for another place than the defect's."""
        return self.wrong or (self.label == "NG" and self.masked and not self.tp)


def cost_of_escape(count: Count, costs: Costs) -> float:
    """What it costs to call a defective picture good, in overkills; of several classes the highest counts."""
    numbers = range(1, 1 + len(count.classes.tp)) if count.classes else ()
    here = [number for number in numbers if count.classes and count.classes.has(number)]
    return max((costs.escape_of.get(number, costs.escape) for number in here), default=costs.escape)


def cost_of_errors(counts: Sequence[Count], costs: Costs) -> float:
    """What all wrong verdicts, and all that people have to look at, cost together, in overkills."""
    wrong = sum(cost_of_escape(c, costs) if c.label == "NG" else 1.0 for c in counts if c.wrong)
    return wrong + costs.look * len(to_look_at(counts))


def to_look_at(counts: Sequence[Count]) -> list[Count]:
    """Those that a person is asked to look at."""
    return [c for c in counts if c.verdict == "LOOK"]


class Interval(NamedTuple):
    low: float
    high: float


def count(
    id: str,
    label: str,
    answer: Answer,
    truth: NDArray[np.uint8],
    classes: Sequence[str] = (),
    masked: bool = True,
) -> Count:
    """Compare one answer with the truth, the numbers of classes (H, W); class by class where there are
    several, and the truth is known: it is `masked`.

    What does not count must be without an answer: see `classes.disregard`.
    """
    found, true = answer.mask.astype(bool), defect_mask(truth)
    labels, _ = connected(true, structure=EIGHT)
    areas = np.bincount(labels.ravel())[1:]
    hit = np.unique(labels[found & true]) - 1
    return Count(
        id,
        label,
        answer.verdict,
        answer.score,
        tp=int(np.count_nonzero(found & true)),
        fp=int(np.count_nonzero(found & ~true)),
        fn=int(np.count_nonzero(~found & true)),
        regions=_by_size(areas),
        regions_hit=_by_size(areas[hit]),
        classes=count_classes(answer, truth, classes) if len(classes) > 1 and masked else None,
        masked=masked,
    )


def with_masks(counts: Sequence[Count]) -> list[Count]:
    """Those that numbers of pixels are taken over: none where NG pictures are there and none has a mask."""
    known = [c for c in counts if c.masked]
    return known if len(known) == len(counts) or any(c.label == "NG" for c in known) else []


def summarize_classes(counts: Sequence[Count], classes: Sequence[str]) -> dict[str, ClassMetrics]:
    """The metrics of each class; none where there is only one."""
    by_class = [(c.classes, c.verdict == "OK") for c in counts if c.classes]
    return {
        name: summarize_class(by_class, number)
        for number, name in enumerate(classes if len(classes) > 1 else (), start=1)
    }


def _by_size(areas: NDArray[np.int64]) -> tuple[int, ...]:
    limits = [limit for limit in SIZES.values() if limit]
    classes = np.searchsorted(limits, areas, side="right")
    return tuple(np.bincount(classes, minlength=len(SIZES)).tolist())


def summarize(counts: Sequence[Count], pixels: Pixels | None) -> Metrics:
    """The metrics of a split. None stands where there is nothing to take a number over.

    iou, dice      of the defect class, over the pixels of all pictures together; None without a defect
                   pixel in truth or prediction
    image_iou,     means over pictures; a picture without a defect pixel in truth and prediction scores 1, so
    image_dice     a good picture scores 1 where it is called OK, else 0
    pixel_ap       average precision of the pixels' probabilities, whatever the threshold; None without a
                   defect pixel, or without `pixels`
    escape         share of NG pictures called OK; None without NG pictures
    overkill       share of OK pictures called NG; None without OK pictures
    look           share of all pictures that a person has to look at, where there are such
    image_auroc    of the score, over pictures; None unless both labels are there
    image_ap       average precision of the score; None unless both labels are there
    region_recall  share of true regions of which a pixel was found; None without regions. Also by area:
                   `_small` (under 64 px), `_medium` (under 256 px), `_large`; `regions_…` are their numbers
    ng, ok         pictures of each label
    ng_masked      NG pictures with a mask, where some have none; what is of pixels and regions is over these
                   and the good pictures, and None where there are no such NG pictures
    """
    known = with_masks(counts)
    tp, fp, fn = (sum(getattr(c, key) for c in known) for key in ("tp", "fp", "fn"))
    bad = [c for c in counts if c.label == "NG"]
    good = [c for c in counts if c.label == "OK"]
    truth, scores = [c.label == "NG" for c in counts], [c.score for c in counts]
    both = bool(bad and good)
    sizes = {
        name: (sum(c.regions_hit[index] for c in known), sum(c.regions[index] for c in known))
        for index, name in enumerate(SIZES)
    }
    return {
        "iou": _ratio(tp, tp + fp + fn),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "image_iou": _mean([_overlap(c.tp, c.tp + c.fp + c.fn) for c in known]),
        "image_dice": _mean([_overlap(2 * c.tp, 2 * c.tp + c.fp + c.fn) for c in known]),
        "pixel_ap": pixels.average_precision() if pixels else None,
        "escape": _ratio(sum(c.wrong for c in bad), len(bad)),
        "overkill": _ratio(sum(c.wrong for c in good), len(good)),
        "image_auroc": float(roc_auc_score(truth, scores)) if both else None,
        "image_ap": float(average_precision_score(truth, scores)) if both else None,
        "region_recall": _ratio(sum(hit for hit, _ in sizes.values()), sum(of for _, of in sizes.values())),
        **{f"region_recall_{name}": _ratio(*size) for name, size in sizes.items()},
        **{f"regions_{name}": of for name, (_, of) in sizes.items()},
        **({"look": len(looks) / len(counts)} if (looks := to_look_at(counts)) else {}),
        "ng": len(bad),
        "ok": len(good),
        **({} if all(c.masked for c in bad) else {"ng_masked": sum(c.masked for c in bad)}),
    }


def spread_scores(counts: Sequence[Count]) -> dict[Literal["OK", "NG"], tuple[float, ...]]:
    """Scores by label, in rising order, at most SPREAD of each."""
    labels: tuple[Literal["OK", "NG"], ...] = ("OK", "NG")
    scores = {label: sorted(c.score for c in counts if c.label == label) for label in labels}
    return {
        label: tuple(found[round(at)] for at in np.linspace(0, len(found) - 1, min(len(found), SPREAD)))
        for label, found in scores.items()
        if found
    }


class Roc(NamedTuple):
    """A point for each threshold of the image score, from high to low."""

    overkill: list[float]
    found: list[float]
    """Share of the NG pictures called NG."""
    thresholds: list[float]


def roc(counts: Sequence[Count]) -> Roc | None:
    """None unless both labels are there."""
    if len({c.label for c in counts}) < 2:
        return None
    # The curve starts at an infinite threshold, which JSON cannot carry.
    overkill, found, thresholds = roc_curve([c.label == "NG" for c in counts], [c.score for c in counts])
    return Roc(overkill.tolist(), found.tolist(), np.clip(thresholds, 0, 1).tolist())


def confusion(counts: Sequence[Count]) -> list[list[int]]:
    """Rows true, columns called, of `called`."""
    labels = called(counts)
    if not counts:
        return [[0] * len(labels) for _ in labels]
    return confusion_matrix([c.label for c in counts], [c.verdict for c in counts], labels=labels).tolist()


def called(counts: Sequence[Count]) -> tuple[str, ...]:
    """OK and NG; with LOOK between them where a picture is called so."""
    return VERDICTS if to_look_at(counts) else LABELS


def grade_counts(counts: Sequence[Count], grades: Grades) -> dict[str, dict[str, int]]:
    """How many pictures of each true label get each grade."""
    given = [(c.label, grade(c.verdict, c.tp + c.fp, grades)) for c in counts]
    return {label: {name: given.count((label, name)) for name in GRADES} for label in LABELS}


def intervals(counts: Sequence[Count], seed: int = 0) -> dict[str, Interval | None]:
    """95 % intervals: Wilson's for the rates, a bootstrap over pictures for the IoU."""
    bad = [c for c in counts if c.label == "NG"]
    good = [c for c in counts if c.label == "OK"]
    return {
        "iou": _bootstrap_iou(with_masks(counts), seed),
        "escape": _wilson(sum(c.wrong for c in bad), len(bad)),
        "overkill": _wilson(sum(c.wrong for c in good), len(good)),
    }


def draw_ious(rows: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """IoU of DRAWS resamples of pictures: (DRAWS, M), NaN where no pixel is in truth or prediction.

    `rows` is (N, M, 3): tp, fp and fn of N pictures by M models, which are drawn together.
    """
    rng = np.random.default_rng(seed)
    # One draw after the other: all at once would take gigabytes for 100,000 pictures.
    sums = np.array([rows[rng.integers(len(rows), size=len(rows))].sum(axis=0) for _ in range(DRAWS)])
    whole = sums.sum(axis=2)
    return np.where(whole > 0, sums[..., 0] / np.maximum(whole, 1), np.nan)


def _bootstrap_iou(counts: Sequence[Count], seed: int) -> Interval | None:
    if not counts:
        return None
    values = draw_ious(np.array([[(c.tp, c.fp, c.fn)] for c in counts], np.int64), seed)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return Interval(*(float(v) for v in np.quantile(values, (0.025, 0.975))))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _overlap(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _wilson(hits: int, of: int) -> Interval | None:
    if not of:
        return None
    found = binomtest(hits, of).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high))
