"""Defects that are painted into good pictures, so that a network learns before any real one is labelled.

A defect is a shape (shapes.py, strokes.py) and what it does to the picture inside (fillings.py); size and
strength are drawn over orders of magnitude, the strength relative to the picture's own noise
(visibility.py), so that it suits any product.
"""

from bisect import bisect
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic import fillings, shapes, strokes
from defectline.components.common.synthetic.fields import Field, log_uniform
from defectline.components.common.synthetic.fillings import Site
from defectline.components.common.synthetic.visibility import Limits, limits, seen

Shape = Callable[[np.random.Generator, int, float], Field]
Filling = Callable[[np.random.Generator, Site], Field]
Kind = TypeVar("Kind")

BROAD: Mapping[Shape, float] = {
    shapes.blob: 0.3,
    shapes.ring: 0.1,
    shapes.islands: 0.1,
    shapes.polygon: 0.06,
    shapes.dots: 0.08,
}
THIN: Mapping[Shape, float] = {
    strokes.scratch: 0.17,
    strokes.fibre: 0.08,
    strokes.crack: 0.07,
    strokes.band: 0.04,
}
SHAPES = {**BROAD, **THIN}
"""Shape → how often it is drawn."""
INTO_BROAD: Mapping[Filling, float] = {
    fillings.tone: 0.3,
    fillings.relief: 0.05,
    fillings.patch: 0.15,
    fillings.grafted: 0.15,
    fillings.texture: 0.08,
    fillings.blur: 0.06,
    fillings.contrast: 0.06,
    fillings.missing: 0.06,
    fillings.doubled: 0.06,
    fillings.warped: 0.03,
}
INTO_THIN: Mapping[Filling, float] = {
    fillings.tone: 0.8,
    fillings.relief: 0.08,
    fillings.patch: 0.06,
    fillings.texture: 0.06,
}
"""Filling → how often it is drawn. What changes structure is not seen in a thin shape."""
ADDED = (fillings.tone, fillings.relief, fillings.texture)
"""What is seen where there is no structure, too."""

COUNTS: Mapping[int, float] = {1: 0.65, 2: 0.22, 3: 0.13}
"""Defects in a picture → how often."""
AREA = (1e-4, 0.2)
"""Of the picture."""
LEAST_STRUCTURE = 2e-3
"""Of the picture: in less there is no structure to change."""
STRENGTH = (1, 40)
"""Times what can just be seen."""
TRIES = 4
MOST_COVERED = 0.5
"""Of what counts."""
LEAST_SEEN = 1.5e-4
"""Of what counts: less is painted again."""
LEAST_COUNTED_PX = 64
"""Into less nothing is painted."""


class Painted(NamedTuple):
    picture: NDArray[np.uint8]
    """(S, S, C)"""
    mask: NDArray[np.uint8]
    """(S, S): 0 good, 1 defect, 255 near the limit of visibility."""


class Ground(NamedTuple):
    """What defects are painted on."""

    picture: NDArray[np.uint8]
    """(H, W, C), as it was."""
    donor: NDArray[np.uint8]
    limit: Limits
    counts: NDArray[np.uint8] | None
    """(H, W) of 0 and 1; None where everything counts."""
    places: NDArray[np.intp]
    """Which pixels count, of the flat picture; none where all do."""

    def place(self, random: np.random.Generator) -> tuple[int, int]:
        """A random pixel that counts: y, x."""
        height, width = self.picture.shape[:2]
        chosen = random.integers(height * width if self.counts is None else len(self.places))
        return divmod(int(chosen if self.counts is None else self.places[chosen]), width)


def paint_defects(
    picture: NDArray[np.uint8],
    donor: NDArray[np.uint8],
    random: np.random.Generator,
    counts: NDArray[np.uint8] | None = None,
) -> Painted:
    """The picture with one to three defects that can be seen, and their mask. Pure.

    `picture` and `donor` are uint8 (S, S, C): pieces are cut from the donor, another good picture of the set
    or the same; neither need be square. `counts`, uint8 (S, S), is 1 where the picture counts, which is where
    defects are painted: over at most half of it. The mask holds some 1, unless there is almost no place that
    counts: then the picture comes back as it is. Of 224×224 grey about 2 ms on one core.
    """
    channels = picture.shape[2]
    if channels > 1 and np.all(picture == picture[..., :1]):
        # Grey as it is, it gets no coloured defects.
        grey = paint_defects(picture[..., :1].copy(), donor[..., :1].copy(), random, counts)
        return Painted(np.repeat(grey.picture, channels, axis=2), grey.mask)
    allowed = None if counts is None else (counts == 1).view(np.uint8)
    places = np.flatnonzero(allowed) if allowed is not None else np.empty(0, np.intp)
    room = picture[..., 0].size if allowed is None else len(places)
    if room >= LEAST_COUNTED_PX:
        ground = Ground(picture, donor, limits(picture), allowed, places)
        for attempt in range(TRIES + 1):
            painted = _paint_some(random, ground) if attempt < TRIES else _paint_dot(random, ground)
            visible = np.count_nonzero(painted.mask == 1)
            if visible >= LEAST_SEEN * room and np.count_nonzero(painted.mask) <= MOST_COVERED * room:
                return painted
    return Painted(picture.copy(), np.zeros(picture.shape[:2], np.uint8))


def draw_kind(random: np.random.Generator) -> tuple[Shape, Filling]:
    """A shape and what fills it."""
    shape = _weighted(random, SHAPES)
    return shape, _weighted(random, INTO_THIN if shape in THIN else INTO_BROAD)


def paint(
    picture: NDArray[np.uint8], ground: Ground, random: np.random.Generator, shape: Shape, filling: Filling
) -> tuple[tuple[slice, slice], Field]:
    """Paint one defect into the picture, in place: in which box, and its shape there."""
    height, width = picture.shape[:2]
    least, most = AREA
    least = least if filling in ADDED else LEAST_STRUCTURE
    area = log_uniform(random, least, most) * height * width
    drawn = shape(random, round((height * width) ** 0.5), area)
    y, x = ground.place(random)
    top, left = y - drawn.shape[0] // 2, x - drawn.shape[1] // 2
    drawn = drawn[max(-top, 0) : height - top, max(-left, 0) : width - left]
    top, left = max(top, 0), max(left, 0)
    box = slice(top, top + drawn.shape[0]), slice(left, left + drawn.shape[1])
    strength = min(float(ground.limit.fine[y, x]) * log_uniform(random, *STRENGTH), 255)
    changed = filling(random, Site(picture, ground.donor, top, left, drawn, strength))
    if ground.counts is not None:
        changed *= ground.counts[box][..., None]
    picture[box] = cv2.add(picture[box], changed, dtype=cv2.CV_8U).reshape(changed.shape)
    return box, drawn


def _paint_some(random: np.random.Generator, ground: Ground) -> Painted:
    painted = ground.picture.copy()
    outlines = np.zeros(painted.shape[:2], np.uint8)
    for _ in range(_weighted(random, COUNTS)):
        box, drawn = paint(painted, ground, random, *draw_kind(random))
        outlines[box] |= drawn > 0.3
    return _marked(painted, ground, outlines)


def _paint_dot(random: np.random.Generator, ground: Ground) -> Painted:
    """Paint a dot that is seen on any ground: black on light ground and white on dark."""
    painted = ground.picture.copy()
    y, x = ground.place(random)
    dot = np.zeros(painted.shape[:2], np.uint8)
    cv2.circle(dot, (x, y), max(2, len(dot) // 64), 1, -1)
    if ground.counts is not None:
        dot &= ground.counts
    painted[dot > 0] = 0 if painted[dot > 0].mean() > 127 else 255
    return _marked(painted, ground, dot)


def _marked(painted: NDArray[np.uint8], ground: Ground, outlines: NDArray[np.uint8]) -> Painted:
    mask = seen(ground.picture, painted, ground.limit, outlines)
    return Painted(painted, mask if ground.counts is None else mask * ground.counts)


def _weighted(random: np.random.Generator, weights: Mapping[Kind, float]) -> Kind:
    *ends, total = accumulate(weights.values())
    return list(weights)[bisect(ends, random.random() * total)]
