"""Which changes of a picture can be seen: relative to its own noise, a change of so many grey levels.

A change is seen where it is large in itself, or where it is half as large and stands out from a coarser
view of the picture, in which noise averages out and an even stain does not.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic.fields import Field, blurred

LEAST = 4.0
"""Grey levels that are seen where there is no noise."""
NOISES = 2.5
"""Standard deviations of the noise around that are seen on top of it."""
MOST = 48.0
"""Grey levels that are seen everywhere."""
DOUBTFUL = 0.5
"""Of the limit: where smaller changes begin that may be seen or not."""
SMOOTHING_PX = 0.8
"""Standard deviation of the Gaussian over which a change counts."""
COARSE = 4
"""A pixel of the coarser view has so many pixels a side."""
COARSE_LEAST = 3.0
WINDOWS = 8
"""The noise is estimated in so many places a side."""
GAPS = 64
"""Gaps up to one GAPSth of the picture's side between what is seen belong to nobody."""


class Limits(NamedTuple):
    """How many grey levels a change must have to be seen, at most MOST; float32."""

    fine: Field
    """(S, S)"""
    coarse: Field
    """(S / COARSE, S / COARSE), of the coarser view."""


def limits(picture: NDArray[np.uint8]) -> Limits:
    """What can be seen on the picture (S, S, C)."""
    levels = picture.astype(np.float32)
    return Limits(
        np.minimum(LEAST + NOISES * _noise(levels), MOST),
        np.minimum(COARSE_LEAST + NOISES * _noise(_coarse(levels)), MOST),
    )


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Field:
    """Grey levels (S, S) by which pictures (S, S, C) differ, lightly smoothed: of the channels the most."""
    return blurred(
        cv2.absdiff(before, after).reshape(before.shape).max(axis=2).astype(np.float32), SMOOTHING_PX
    )


def seen(before: NDArray[np.uint8], after: NDArray[np.uint8], limit: Limits) -> NDArray[np.uint8]:
    """The mask (S, S) of what changed: 1 where one sees it, 0 where not, 255 where that is in doubt.

    In doubt are changes between DOUBTFUL of the limit and the limit, the rim of what is seen, and narrow
    gaps in it.
    """
    size = before.shape[0]
    differs = change(before, after) / limit.fine
    coarse = np.abs(_coarse(after.astype(np.float32) - before)).max(axis=2) / limit.coarse
    broad = cv2.resize(coarse, before.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    doubtful = differs >= DOUBTFUL
    certain = ((differs >= 1) | (doubtful & (broad >= 1))).astype(np.uint8)
    side = 2 * (size // (2 * GAPS)) + 3
    closed = cv2.morphologyEx(certain, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    rim = cv2.dilate(closed, np.ones((3, 3), np.uint8))
    return np.where(certain > 0, 1, np.where(doubtful | (rim > 0), 255, 0)).astype(np.uint8)


def _coarse(levels: Field) -> Field:
    height, width, channels = levels.shape
    size = max(width // COARSE, 1), max(height // COARSE, 1)
    return blurred(
        cv2.resize(levels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels), 0.6
    )


def _noise(levels: Field) -> Field:
    """Standard deviation (H, W) of the noise around each pixel of (H, W, C), of the channels the largest.

    Of what a blur takes away, the mean of square roots: edges and bright points hardly raise it.
    """
    height, width, channels = levels.shape
    windows = min(WINDOWS, width), min(WINDOWS, height)
    roots = np.sqrt(np.abs(levels - blurred(levels, 1.5)))
    mean = cv2.resize(roots, windows, interpolation=cv2.INTER_AREA).reshape(windows[1], windows[0], channels)
    # For Gaussian noise the squared mean of roots is 0.68 standard deviations.
    return cv2.resize(np.square(mean).max(axis=2) / 0.68, (width, height), interpolation=cv2.INTER_LINEAR)
