"""Defects that are painted into good pictures, so that a network learns before any real one is labelled.

A defect is a shape (shapes.py, strokes.py) and what it does to the picture inside (fillings.py); size and
strength are drawn over orders of magnitude, the strength relative to the picture's own noise
(visibility.py), so that it suits any product.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic import fillings, shapes, strokes
from defectline.components.common.synthetic.fields import Field, log_uniform
from defectline.components.common.synthetic.fillings import Site
from defectline.components.common.synthetic.visibility import Limits, limits, seen

Shape = Callable[[np.random.Generator, int, float], Field]
Filling = Callable[[np.random.Generator, Site], Field]

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
SHAPES = BROAD | THIN
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

COUNTS = (0.65, 0.22, 0.13)
"""How often one, two, three defects are painted."""
AREA = (1e-4, 0.1)
"""Of the picture."""
STRENGTH = (0.5, 12)
"""Times what can just be seen."""
TRIES = 4
MOST_COVERED = 0.5
"""Of what counts."""
LEAST_COUNTED_PX = 64
"""Into less nothing is painted."""


class Painted(NamedTuple):
    picture: NDArray[np.uint8]
    """(S, S, C)"""
    mask: NDArray[np.uint8]
    """(S, S): 0 good, 1 defect, 255 near the limit of visibility."""


def paint_defects(
    picture: NDArray[np.uint8],
    donor: NDArray[np.uint8],
    random: np.random.Generator,
    counts: NDArray[np.uint8] | None = None,
) -> Painted:
    """The picture with one to three defects that can be seen, and their mask. Pure.

    `picture` and `donor` are uint8 (S, S, C): pieces are cut from the donor, another good picture of the set
    or the same. `counts`, uint8 (S, S), is 1 where the picture counts, which is where defects are painted:
    over at most half of it. The mask holds some 1, unless there is almost no place that counts: then the
    picture comes back as it is. Of 224×224 grey about 2 ms on one core.
    """
    inside = None if counts is None else np.flatnonzero(counts == 1)
    room = picture.shape[0] * picture.shape[1] if inside is None else len(inside)
    if room < LEAST_COUNTED_PX:
        return Painted(picture.copy(), np.zeros(picture.shape[:2], np.uint8))
    limit = limits(picture)
    allowed = None if inside is None else (counts == 1).astype(np.float32)
    for attempt in range(TRIES + 1):
        painted = picture.copy()
        if attempt == TRIES:
            _paint_dot(painted, random, allowed, inside)
        else:
            for _ in range(1 + int(random.choice(len(COUNTS), p=COUNTS))):
                shape, filling = draw_kind(random)
                _paint(painted, donor, random, shape, filling, limit, allowed, inside)
        mask = seen(picture, painted, limit)
        if allowed is not None:
            mask *= counts == 1
        covered = np.count_nonzero(mask)
        if np.any(mask == 1) and covered <= MOST_COVERED * room:
            return Painted(painted, mask)
    return Painted(picture.copy(), np.zeros(picture.shape[:2], np.uint8))


def draw_kind(random: np.random.Generator) -> tuple[Shape, Filling]:
    """A shape and what fills it."""
    shape = _weighted(random, SHAPES)
    return shape, _weighted(random, INTO_THIN if shape in THIN else INTO_BROAD)


def _weighted(random: np.random.Generator, weights: Mapping):
    mark = random.random() * sum(weights.values())
    for each, weight in weights.items():
        mark -= weight
        if mark < 0:
            return each
    return each


def _paint(
    picture: NDArray[np.uint8],
    donor: NDArray[np.uint8],
    random: np.random.Generator,
    shape: Shape,
    filling: Filling,
    limit: Limits,
    allowed: Field | None,
    inside: NDArray[np.intp] | None,
) -> None:
    """Paint one defect into the picture, in place."""
    size = len(picture)
    drawn = shape(random, size, log_uniform(random, *AREA) * size**2)
    y, x = _position(random, picture, inside)
    top, left = y - drawn.shape[0] // 2, x - drawn.shape[1] // 2
    drawn = drawn[max(-top, 0) : size - top, max(-left, 0) : size - left]
    top, left = max(top, 0), max(left, 0)
    box = slice(top, top + drawn.shape[0]), slice(left, left + drawn.shape[1])
    strength = float(limit.fine[y, x]) * log_uniform(random, *STRENGTH)
    changed = filling(random, Site(picture, donor, top, left, drawn, min(strength, 255)))
    if allowed is not None:
        changed *= allowed[box][..., None]
    picture[box] = np.clip(np.rint(picture[box] + changed), 0, 255).astype(np.uint8)


def _position(
    random: np.random.Generator, picture: NDArray[np.uint8], inside: NDArray[np.intp] | None
) -> tuple[int, int]:
    height, width = picture.shape[:2]
    place = random.integers(height * width if inside is None else len(inside))
    y, x = divmod(int(place if inside is None else inside[place]), width)
    return y, x


def _paint_dot(
    picture: NDArray[np.uint8],
    random: np.random.Generator,
    allowed: Field | None,
    inside: NDArray[np.intp] | None,
) -> None:
    """Paint a dot that is seen on any ground, in place: black on light ground and white on dark."""
    y, x = _position(random, picture, inside)
    drawn = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(drawn, (x, y), max(2, len(picture) // 64), 1, -1)
    where = drawn > 0 if allowed is None else (drawn > 0) & (allowed > 0)
    picture[where] = 0 if picture[where].mean() > 127 else 255
