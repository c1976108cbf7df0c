"""From the network's probabilities to an answer: score, verdict, regions, mask.

Evaluate calibrates and gates with these functions, and the predictor answers with them.
"""

import base64
from collections.abc import Sequence
from typing import NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.images.colours import encode_classes
from defectline.components.common.inference import class_maps
from defectline.components.common.inference.class_maps import ClassMaps, bands
from defectline.components.common.prediction import Grade, Verdict

LEVELS = class_maps.LEVELS
"""Probabilities are rounded down to thousandths, so that scores and thresholds compare exactly."""

GRADES = get_args(Grade)


class Region(NamedTuple):
    """A connected defect (8 neighbours); bbox is x, y, width, height in pixels."""

    bbox: tuple[int, int, int, int]
    area_px: int
    centroid: tuple[float, float]
    score: float
    """The highest probability in it."""
    kind: int = 1
    """The number of its class: that with the largest mean probability in it."""
    probability: float = 0.0
    """That mean, where there are several classes."""


class Answer(NamedTuple):
    verdict: Verdict
    score: float
    regions: list[Region]
    mask: NDArray[np.uint8]
    """(H, W), in the regions the numbers of their classes."""
    classes: Sequence[str] = DEFAULT_CLASSES


class Maps(NamedTuple):
    """What a network says of a picture."""

    score_map: NDArray[np.uint16]
    """(H, W), the probability of any defect."""
    classes: ClassMaps | None = None
    """None where there is one class."""
    features: NDArray[np.float32] | None = None
    """(T, C), what the encoder sees in each tile: see novelty.py; None where the engine does not tell."""

    @property
    def nbytes(self) -> int:
        parts = self.score_map, self.classes and self.classes.levels, self.features
        return sum(part.nbytes for part in parts if part is not None)


class Grades(BaseModel):
    """Limits on a part's defect area, in pixels of the incoming picture; b_px is at least a_px."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    a_px: int = Field(ge=0)
    b_px: int = Field(ge=1)


def grade(verdict: str, area_px: int, grades: Grades) -> str:
    """A: called OK, or a defect area of at most a_px; B, second quality: of at most b_px; else reject."""
    if verdict == "OK" or area_px <= grades.a_px:
        return "A"
    return "B" if area_px <= grades.b_px else "reject"


def to_score_map(probability: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Probabilities in thousandths, rounded down: a score map, uint16 of the same shape, 0 to LEVELS."""
    score_map = np.empty(probability.shape, np.uint16)
    for rows in bands(probability):
        # The offset keeps 0.7 from becoming 699 by its binary representation.
        score_map[rows] = np.floor(np.clip(probability[rows], 0, 1) * LEVELS + 1e-3)
    return score_map


def image_score(
    score_map: NDArray[np.uint16], min_area_px: int, touching: NDArray[np.bool_] | None = None
) -> int:
    """The highest level at which a region of at least `min_area_px` pixels survives, else 0.

    `score_map` is (H, W). So for any threshold t in thousandths: score ≥ t ⇔ such a region exists at t. With
    `touching` (H, W), only regions count that have a pixel in it.
    """
    low, high = 0, _area_level(score_map, min_area_px)
    while low < high:
        middle = (low + high + 1) // 2
        if _largest_area(score_map >= middle, touching) >= min_area_px:
            low = middle
        else:
            high = middle - 1
    return low


def _area_level(score_map: NDArray[np.uint16], min_area_px: int) -> int:
    """The level that the `min_area_px` brightest pixels reach, connected or not: a bound from above."""
    counts = sum(np.bincount(score_map[rows].ravel(), minlength=LEVELS + 1) for rows in bands(score_map))
    at_least = np.cumsum(np.asarray(counts)[::-1])[::-1]
    return max(0, int(np.count_nonzero(at_least >= min_area_px)) - 1)


def _largest_area(mask: NDArray[np.bool_], touching: NDArray[np.bool_] | None) -> int:
    found = _label(mask)
    areas = found.stats[:, cv2.CC_STAT_AREA]
    if touching is not None:
        rows = np.unique(found.labels[touching[found.window]])
        areas = areas[rows[rows > 0] - 1]
    return int(areas.max(initial=0))


class _Labelled(NamedTuple):
    """The connected parts of a mask (8 neighbours) within the smallest window that holds them all."""

    window: tuple[slice, slice]
    labels: NDArray[np.int32]
    """Of the window: 0, or 1 + the part's row in the others."""
    stats: NDArray[np.int32]
    """x, y, width, height in the window, and area."""
    centroids: NDArray[np.float64]
    """x, y in the window."""


def _label(mask: NDArray[np.bool_]) -> _Labelled:
    # Defects fill a small part of a picture, and labelling takes time and memory by the pixel.
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    if not width:
        return _Labelled(window, np.empty((0, 0), np.int32), np.empty((0, 5), np.int32), np.empty((0, 2)))
    inside = mask[window].view(np.uint8)
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(inside, connectivity=8)
    return _Labelled(window, labels, stats[1:], centroids[1:])


def find_regions(
    score_map: NDArray[np.uint16], threshold_level: int, min_area_px: int, classes: ClassMaps | None = None
) -> tuple[list[Region], NDArray[np.uint8]]:
    """The regions at `threshold_level` (in thousandths), largest first, and the mask (H, W) that holds the
    numbers of their classes."""
    found = _label(score_map >= max(threshold_level, 1))
    top, left = (side.start for side in found.window)
    regions, kept = [], np.zeros(1 + len(found.stats), np.uint8)
    means = classes.means(found.labels, top, left, len(found.stats)) if classes and len(found.stats) else None
    for index, (x, y, width, height, area) in enumerate(found.stats.tolist()):
        if area < min_area_px:
            continue
        kind = 1 + int(means[index].argmax()) if means is not None else 1
        likely = round(float(means[index].max()), 3) if means is not None else 0.0
        kept[1 + index] = kind
        inside = np.s_[y : y + height, x : x + width]
        peak = score_map[found.window][inside][found.labels[inside] == 1 + index].max()
        cx, cy = found.centroids[index]
        centre = (round(float(left + cx), 1), round(float(top + cy), 1))
        box = (left + x, top + y, width, height)
        regions.append(Region(box, area, centre, float(peak) / LEVELS, kind, likely))
    regions.sort(key=lambda region: -region.area_px)
    mask = np.zeros(score_map.shape, np.uint8)
    mask[found.window] = kept[found.labels]
    return regions, mask


def answer(
    score_map: NDArray[np.uint16],
    threshold: float,
    min_area_px: int,
    classes: ClassMaps | None = None,
    ng_from: float | None = None,
) -> Answer:
    """Judge one picture's score map (H, W). The maps of several `classes` say which each region is of, and
    change no verdict.

    The verdict is that of `judge_score`; the regions are those at the level that a picture called NG, or
    LOOK, has reached.
    """
    score = image_score(score_map, min_area_px) / LEVELS
    verdict = judge_score(score, threshold, ng_from)
    level = threshold if ng_from is None or verdict != "NG" else ng_from
    regions, mask = find_regions(score_map, round(level * LEVELS), min_area_px, classes)
    return Answer(verdict, score, regions, mask, classes.names if classes else DEFAULT_CLASSES)


def judge(maps: Maps, threshold: float, min_area_px: int, ng_from: float | None = None) -> Answer:
    """Judge what a network says of one picture."""
    return answer(maps.score_map, threshold, min_area_px, maps.classes, ng_from)


def judge_score(score: float, threshold: float, ng_from: float | None = None) -> Verdict:
    """OK below `threshold`, NG from `ng_from` on, LOOK between; without `ng_from` there are two verdicts."""
    level = round(score * LEVELS)
    # At 0 too, a region is what has a probability.
    if level < max(round(threshold * LEVELS), 1):
        return "OK"
    return "LOOK" if ng_from is not None and level < round(ng_from * LEVELS) else "NG"


def to_prediction(judged: Answer, grades: Grades | None = None, mask: bool = True) -> dict:
    """An Answer as the endpoint sends it, but for version and latency; graded where there are limits,
    without the mask where `mask` is false."""
    area, several = int(np.count_nonzero(judged.mask)), len(judged.classes) > 1
    return {
        "verdict": judged.verdict,
        "score": judged.score,
        **({"grade": grade(judged.verdict, area, grades)} if grades else {}),
        "defect_area_px": area,
        "defect_area_ratio": round(area / judged.mask.size, 6),
        **({"class_areas_px": _areas(judged)} if several else {}),
        "regions": [
            {
                "bbox": list(r.bbox),
                "area_px": r.area_px,
                "centroid": list(r.centroid),
                "score": r.score,
                **(
                    {"class": judged.classes[r.kind - 1], "class_probability": r.probability}
                    if several
                    else {}
                ),
            }
            for r in judged.regions
        ],
        **(
            {"mask_png": base64.b64encode(encode_classes(judged.mask, judged.classes)).decode()}
            if mask
            else {}
        ),
    }


def _areas(judged: Answer) -> dict[str, int]:
    """Of all classes, in their order."""
    areas = dict.fromkeys(judged.classes, 0)
    for region in judged.regions:
        areas[judged.classes[region.kind - 1]] += region.area_px
    return areas
