"""Which test pictures the report shows, what is said of each, and how it is drawn."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.bundle import Bundle
from defectline.components.common.classes import DEFAULT_CLASSES, GOOD, IGNORE, LABELS, defect_mask
from defectline.components.common.images.colours import colour_of, encode_classes
from defectline.components.common.images.drawing import contours, picture_uri
from defectline.components.common.images.reading import decode_image
from defectline.components.common.inference.inspection import LEVELS, Region, grade
from defectline.components.common.snapshot import Pair
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.scoring import Evaluated

SHOWN = {
    "escape": 20,
    "overkill": 20,
    "look": 20,
    "mislocalised": 10,
    "partly": 20,
    "fixed_escape": 20,
    "fixed_overkill": 20,
    "NG": 100,
    "OK": 100,
}
"""Pictures of each kind at most: the worst of what went wrong, what the champion alone gets wrong, any of the
rest."""
LEAST_SHOWN = 8
HELD_BYTES = 50_000_000
"""Of pictures of a kind, beyond LEAST_SHOWN of them: the files of large frames would fill the memory."""
LARGEST_PX = 960
"""Pictures with a longer side are shrunken to this, so that the page stays small."""
LARGEST_RIGHT_PX = 448
"""The same where all went right, which are many."""
QUALITY = 80
"""Of WebP. Enough to see a scratch."""
AROUND = 8
"""Pixels around a defect that it is compared with."""
BEYOND = 9
"""Pixels outside of a picture, where a line is not seen."""


class Example(NamedTuple):
    """One test picture; masks as PNG of `encode_classes`, because large frames would fill the memory."""

    pair: Pair
    image: bytes
    counted: Count
    regions: list[Region]
    """Those found, largest first."""
    peak: float
    """The highest probability where the truth has its defect; of a good picture, anywhere."""
    truth: bytes
    found: bytes
    classes: Sequence[str] = DEFAULT_CLASSES
    champion: str = ""
    """The champion's verdict; "" where it was not asked."""


T = TypeVar("T")
NOBODY: Mapping[str, str] = MappingProxyType({})


class _Kept(NamedTuple, Generic[T]):
    order: tuple[float, str]
    size: int
    """Bytes of the picture's file."""
    item: T


class Selection(Generic[T]):
    """A few pictures of each kind, whatever is kept of each."""

    def __init__(self, champion: Mapping[str, str] = NOBODY) -> None:
        """`champion` has the champion's verdicts by the ids of pictures."""
        self.champion = champion
        self._kept: dict[str, list[_Kept[T]]] = {kind: [] for kind in SHOWN}

    def offer(self, pair: Pair, counted: Count, size: int, make: Callable[[], T]) -> None:
        """Keep what `make` gives, where the picture is among those that are shown so far."""
        kind = kind_of(counted, self.champion.get(counted.id, ""))
        kept, order = self._kept[kind], _order(counted, pair)
        if len(kept) == SHOWN[kind] and order >= kept[-1].order:
            return
        kept.append(_Kept(order, size, make()))
        kept.sort(key=lambda one: one.order)
        del kept[SHOWN[kind] :]
        while len(kept) > LEAST_SHOWN and sum(one.size for one in kept) > HELD_BYTES:
            kept.pop()

    @property
    def kinds(self) -> dict[str, list[T]]:
        return {kind: [one.item for one in kept] for kind, kept in self._kept.items()}


def choose_shown(
    pairs: Iterable[Pair], counts: Iterable[Count], champion: Mapping[str, str] = NOBODY
) -> list[Pair]:
    """Of pictures that were judged, those that a collector keeps which sees all of them, in the order of the
    `counts`. Pure."""
    pair_of, selection = {pair.id: pair for pair in pairs}, Selection[Pair](champion)
    for counted in counts:
        pair = pair_of[counted.id]
        selection.offer(pair, counted, pair.image_bytes, partial(pair_of.__getitem__, pair.id))
    return [pair for kept in selection.kinds.values() for pair in kept]


class ExampleCollector:
    """Sees every test picture and keeps a few of each kind, so that memory stays flat."""

    def __init__(
        self, classes: Sequence[str] = DEFAULT_CLASSES, champion: Mapping[str, str] = NOBODY
    ) -> None:
        """`champion` has the champion's verdicts by the ids of pictures."""
        self.classes, self._selection = classes, Selection[Example](champion)

    def add(self, evaluated: Evaluated) -> None:
        self._selection.offer(
            evaluated.pair, evaluated.counted, len(evaluated.image), lambda: self._make(evaluated)
        )

    def _make(self, evaluated: Evaluated) -> Example:
        defect = defect_mask(evaluated.truth)
        score_map = evaluated.score_map[defect] if defect.any() else evaluated.score_map
        peak = float(score_map.max()) / LEVELS
        # The numbers of a palette hold what does not count as well.
        held = ("",) * 2 if np.any(evaluated.truth == IGNORE) else self.classes
        truth, found = (
            encode_classes(evaluated.truth, held),
            encode_classes(evaluated.answer.mask, self.classes),
        )
        return Example(
            evaluated.pair,
            evaluated.image,
            evaluated.counted,
            evaluated.answer.regions,
            peak,
            truth,
            found,
            self.classes,
            self._selection.champion.get(evaluated.counted.id, ""),
        )

    @property
    def kinds(self) -> dict[str, list[Example]]:
        return self._selection.kinds

    @property
    def examples(self) -> list[Example]:
        return [example for kept in self.kinds.values() for example in kept]


def kind_of(count: Count, champion: str = "") -> str:
    """Which kind of SHOWN a picture is; `champion` is the verdict of the champion, where it was asked."""
    error = "escape" if count.label == "NG" else "overkill"
    if count.wrong:
        return error
    if count.verdict == "LOOK":
        return "look"
    if count.missed:
        return "mislocalised"
    if champion not in ("", count.label, "LOOK"):
        return f"fixed_{error}"
    return "partly" if sum(count.regions_hit) < sum(count.regions) else count.label


def _order(count: Count, pair: Pair) -> tuple[float, str]:
    """The worst first; a hash of the pixels decides among pictures that went right."""
    missed = float(sum(count.regions_hit) - sum(count.regions))
    worst = {"escape": count.score, "overkill": -count.score, "mislocalised": -count.score, "partly": missed}
    return worst.get(kind_of(count), 0.0), pair.pixel_sha256


def explain(example: Example, bundle: Bundle) -> tuple[str, str]:
    """What happened, as a headline, and why the answer came out so."""
    headline, why = _explain(example, bundle)
    differs = example.champion not in ("", example.counted.verdict)
    return headline, why + (f" The champion calls it {example.champion}." if differs else "")


def _explain(example: Example, bundle: Bundle) -> tuple[str, str]:
    count, limit = example.counted, f"threshold {bundle.threshold:.3f}"
    called = f"{'Defective' if count.label == 'NG' else 'Good'}, called {count.verdict}"
    if bundle.ng_from is not None and count.verdict != "OK":
        limit = f"threshold {bundle.ng_from:.3f} for NG"
    area, found = count.tp + count.fn, count.tp + count.fp
    graded = f" Grade {grade(count.verdict, found, bundle.grades)}." if bundle.grades else ""
    if not count.masked:
        headline = "Escape: defective, called OK" if count.wrong else called
        return headline, f"Score {count.score:.3f}, {limit}. Where its defect is, no mask says.{graded}"
    if count.verdict == "LOOK":
        return called, f"Score {count.score:.3f}, below the {limit}.{graded}"
    if area and count.verdict == "OK":
        why = f"Score {count.score:.3f}, {limit}. The defect of {area} px reached {example.peak:.3f} at most."
        if example.peak >= bundle.threshold:
            why = (
                f"Score {count.score:.3f}, {limit}. The defect of {area} px reached {example.peak:.3f}, but "
                f"no region of {bundle.min_area_px} px or more does."
            )
        return "Escape: defective, called OK", why + graded
    if not area and count.verdict == "NG":
        region, others = example.regions[0], len(example.regions) - 1
        which = f"{others + 1} regions; the largest" if others else "1 region; it"
        why = (
            f"Score {count.score:.3f}, {limit}. {which} has {region.area_px} px at x {region.bbox[0]}, "
            f"y {region.bbox[1]}, with single pixels of up to {region.score:.3f}."
        )
        return "Overkill: good, called NG", why + graded
    if not area:
        return called, f"Score {count.score:.3f}, {limit}.{graded}"
    iou = count.tp / (area + count.fp)
    parts = f"{count.tp} of {area} px found, {count.fp} px too many: IoU {iou:.2f}."
    if not count.tp:
        why = f"Score {count.score:.3f}, {limit}. Nothing of the defect was found. {parts}{graded}"
        return "Right verdict for the wrong place", why
    of, hit = sum(count.regions), sum(count.regions_hit)
    if hit < of:
        which = "1 defect was missed" if of - hit == 1 else f"{of - hit} defects were missed"
        why = f"Score {count.score:.3f}, {limit}. {hit} of {of} regions were found. {parts}{graded}"
        return f"Right verdict, but {which}", why
    return called, f"Score {count.score:.3f}, {limit}. {parts}{graded}"


class Part(NamedTuple):
    """What a picture has of one class."""

    path: str
    """The outline."""
    colour: str
    name: str


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
    truth_parts: Sequence[Part] = ()
    """Of each class, where there are several."""
    found_parts: Sequence[Part] = ()
    ignored: str = ""
    """Outline of what does not count, within the region of interest."""
    outside: str = ""
    """What lies outside of the region of interest, to be filled; "" where there is none."""
    masked: bool = True
    """Whether the truth is known."""
    contrast: float | None = None
    """Of the true defect, as `contrast` says."""


def render_example(example: Example, bundle: Bundle, roi: NDArray[np.uint8] | None = None) -> RenderedExample:
    """Draw and describe an example, of whose picture only what `roi`, (H, W) of its size, marks counted."""
    image = decode_image(example.image, channels=3)
    right = kind_of(example.counted, example.champion) in LABELS
    if (scale := (LARGEST_RIGHT_PX if right else LARGEST_PX) / max(image.shape)) < 1:
        image = np.asarray(
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    height, width = image.shape[:2]
    headline, why = explain(example, bundle)
    marked, found = _unpack(example.truth), _unpack(example.found)
    if roi is not None:
        marked = marked * roi
    truth = defect_mask(marked).astype(np.uint8)
    truth_parts, found_parts = (_parts(mask, example.classes, width, height) for mask in (marked, found))
    at_size = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
    return RenderedExample(
        example.pair.id,
        headline,
        why,
        picture_uri(image, QUALITY),
        width,
        height,
        truth=outline_path(truth, width, height),
        found=outline_path(found, width, height),
        truth_says=(_describe(truth, "true") if example.counted.masked else "no mask")
        + _name(marked, example.classes)
        + ("" if roi is None else "; what lies outside of the region of interest is dimmed"),
        found_says=_describe((found > 0).astype(np.uint8), "found") + _name(found, example.classes),
        truth_parts=truth_parts,
        found_parts=found_parts,
        ignored=outline_path((marked == IGNORE).astype(np.uint8), width, height),
        outside="" if roi is None else outside_path(roi, width, height),
        masked=example.counted.masked,
        contrast=contrast(image, at_size) if example.counted.masked else None,
    )


def contrast(image: NDArray[np.uint8], defect: NDArray[np.uint8]) -> float | None:
    """By how many grey levels of 255 the mean of a defect, (H, W) of 0 and 1, differs from that of a ring of
    AROUND pixels in `image`, (H, W, 3) RGB; None without a defect or without anything around it."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ring = cv2.dilate(defect, np.ones((2 * AROUND + 1,) * 2, np.uint8)) - defect
    if not defect.any() or not ring.any():
        return None
    return abs(float(grey[defect > 0].mean()) - float(grey[ring > 0].mean()))


def _unpack(mask: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(mask))).astype(np.uint8)


def _numbers(mask: NDArray[np.uint8], classes: Sequence[str]) -> list[int]:
    """Of the classes in a mask, where there are several to tell apart."""
    return [int(n) for n in np.unique(mask) if n not in (GOOD, IGNORE)] if len(classes) > 1 else []


def _parts(mask: NDArray[np.uint8], classes: Sequence[str], width: int, height: int) -> list[Part]:
    outlines = {n: outline_path((mask == n).astype(np.uint8), width, height) for n in _numbers(mask, classes)}
    return [Part(path, css_colour(number), classes[number - 1]) for number, path in outlines.items()]


def css_colour(number: int) -> str:
    """The colour of a class in the page."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(number))


def _name(mask: NDArray[np.uint8], classes: Sequence[str]) -> str:
    names = ", ".join(classes[number - 1] for number in _numbers(mask, classes))
    return f"; {names}" if names else ""


def outline_path(mask: NDArray[np.uint8], width: int, height: int) -> str:
    """The regions of `mask`, of any size, as an SVG path around them in a picture of width × height."""
    outlines = contours(mask, width, height, margin_px=1)
    lines = (cv2.approxPolyDP(outline, 0.8, True)[:, 0] for outline in outlines)
    return "".join("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in line) + "Z" for line in lines)


def outside_path(roi: NDArray[np.uint8], width: int, height: int) -> str:
    """All of a picture of width × height but the region, of any size, as an SVG path to fill by evenodd."""
    inside = cv2.resize(roi, (width, height), interpolation=cv2.INTER_NEAREST)
    path = f"M{-BEYOND} {-BEYOND}H{width + BEYOND}V{height + BEYOND}H{-BEYOND}Z"
    for outline in cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]:
        x, y = cv2.approxPolyDP(outline, 0.8, True)[:, 0].T
        # Where the region ends with the picture there is no line to see.
        sides = ((x, width), (y, height))
        xs, ys = (
            np.where(at == 0, -BEYOND, np.where(at == size - 1, size + BEYOND, at + 0.5))
            for at, size in sides
        )
        path += "M" + "L".join(f"{a:g} {b:g}" for a, b in zip(xs, ys, strict=True)) + "Z"
    return path


def _describe(mask: NDArray[np.uint8], what: str) -> str:
    """Where the regions of a mask (H, W) are, for those who do not see it."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return f"no {what} defect"
    largest = stats[1:][np.argmax(stats[1:, cv2.CC_STAT_AREA])]
    x, y, width, height, area = (int(v) for v in largest)
    regions = f"one {what} region" if count == 2 else f"{count - 1} {what} regions, the largest"
    return f"{regions} of {area} px, {width} wide and {height} high, at x {x}, y {y}"
