"""Which test pictures the report shows, what is said of each, and how it is drawn."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle
from defectline.components.common.images.drawing import contours, picture_uri
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.images.reading import decode_image
from defectline.components.common.inference.inspection import LEVELS, Region, grade
from defectline.components.common.snapshot import Pair
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.scoring import Evaluated

SHOWN = {"escape": 20, "overkill": 20, "mislocalised": 10, "NG": 8, "OK": 8}
"""Pictures of each kind at most: the worst of what went wrong, any of the rest."""
LARGEST_PX = 448
"""Pictures with a longer side are shrunken to this, so that the page stays small."""
QUALITY = 80
"""Of WebP. Enough to see a scratch."""


class Example(NamedTuple):
    """One test picture; masks as 1-bit PNG, because large frames would fill the memory."""

    pair: Pair
    image: bytes
    counted: Count
    regions: list[Region]
    """Those found, largest first."""
    peak: float
    """The highest probability where the truth has its defect; of a good picture, anywhere."""
    truth: bytes
    found: bytes


class ExampleCollector:
    """Sees every test picture and keeps a few of each kind, so that memory stays flat."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[Example]] = {kind: [] for kind in SHOWN}

    def add(self, evaluated: Evaluated) -> None:
        kind = _kind(evaluated.counted)
        kept = self.kinds[kind]
        order = _order(evaluated.counted, evaluated.pair)
        if len(kept) == SHOWN[kind] and order >= _order(kept[-1].counted, kept[-1].pair):
            return
        score_map = evaluated.score_map[evaluated.truth > 0] if evaluated.truth.any() else evaluated.score_map
        peak = float(score_map.max()) / LEVELS
        truth, found = encode_mask(evaluated.truth), encode_mask(evaluated.answer.mask)
        regions = evaluated.answer.regions
        kept.append(Example(evaluated.pair, evaluated.image, evaluated.counted, regions, peak, truth, found))
        kept.sort(key=lambda example: _order(example.counted, example.pair))
        del kept[SHOWN[kind] :]

    @property
    def examples(self) -> list[Example]:
        return [example for kept in self.kinds.values() for example in kept]


def _kind(count: Count) -> str:
    if count.wrong:
        return "escape" if count.label == "NG" else "overkill"
    return "mislocalised" if count.missed else count.label


def _order(count: Count, pair: Pair) -> tuple[float, str]:
    """The worst first; a hash of the pixels decides among pictures that went right."""
    worst = {"escape": count.score, "overkill": -count.score, "mislocalised": -count.score}
    return worst.get(_kind(count), 0.0), pair.pixel_sha256


def explain(example: Example, bundle: Bundle) -> tuple[str, str]:
    """What happened, as a headline, and why the answer came out so."""
    count, limit = example.counted, f"threshold {bundle.threshold:.3f}"
    area, found = count.tp + count.fn, count.tp + count.fp
    graded = f" Grade {grade(count.verdict, found, bundle.grades)}." if bundle.grades else ""
    if area and count.verdict == "OK":
        why = f"The defect of {area} px reached {example.peak:.3f} at most, below the {limit}."
        if example.peak >= bundle.threshold:
            why = (
                f"The defect of {area} px reached {example.peak:.3f}, but no region of "
                f"{bundle.min_area_px} px or more lies above the {limit}."
            )
        return "Escape: defective, called OK", why + graded
    if not area and count.verdict == "NG":
        region, others = example.regions[0], len(example.regions) - 1
        which = (
            f"{others + 1} regions above the {limit}; the largest"
            if others
            else f"1 region above the {limit}; it"
        )
        why = (
            f"{which} has {region.area_px} px at x {region.bbox[0]}, y {region.bbox[1]}, "
            f"probability {region.score:.3f} at most."
        )
        return "Overkill: good, called NG", why + graded
    if not area:
        return "Good, called OK", f"Score {count.score:.3f}, {limit}.{graded}"
    iou = count.tp / (area + count.fp)
    parts = f"{count.tp} of {area} px found, {count.fp} px too many: IoU {iou:.2f}."
    if not count.tp:
        return "Right verdict for the wrong place", f"Nothing of the defect was found. {parts}{graded}"
    return "Defective, called NG", f"Score {count.score:.3f}, {limit}. {parts}{graded}"


class RenderedExample(NamedTuple):
    """An example as the page draws it: the picture once, and two outlines as SVG paths in its pixels."""

    id: str
    headline: str
    why: str
    picture: str
    width: int
    height: int
    truth: str
    found: str
    truth_says: str
    found_says: str


def render_example(example: Example, bundle: Bundle) -> RenderedExample:
    """Draw and describe an example."""
    image = decode_image(example.image, channels=3)
    if (scale := LARGEST_PX / max(image.shape)) < 1:
        image = np.asarray(
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    height, width = image.shape[:2]
    headline, why = explain(example, bundle)
    truth, found = decode_mask(example.truth), decode_mask(example.found)
    return RenderedExample(
        example.pair.id,
        headline,
        why,
        picture_uri(image, QUALITY),
        width,
        height,
        truth=outline_path(truth, width, height),
        found=outline_path(found, width, height),
        truth_says=_describe(truth, "true"),
        found_says=_describe(found, "found"),
    )


def outline_path(mask: NDArray[np.uint8], width: int, height: int) -> str:
    """The regions of `mask`, of any size, as an SVG path around them in a picture of width × height."""
    outlines = contours(mask, width, height, margin_px=1)
    lines = (cv2.approxPolyDP(outline, 0.8, True)[:, 0] for outline in outlines)
    return "".join("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in line) + "Z" for line in lines)


def _describe(mask: NDArray[np.uint8], what: str) -> str:
    """Where the regions of a mask (H, W) are, for those who do not see it."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return f"no {what} defect"
    largest = stats[1:][np.argmax(stats[1:, cv2.CC_STAT_AREA])]
    x, y, width, height, area = (int(v) for v in largest)
    regions = f"one {what} region" if count == 2 else f"{count - 1} {what} regions, the largest"
    return f"{regions} of {area} px, {width} wide and {height} high, at x {x}, y {y}"
