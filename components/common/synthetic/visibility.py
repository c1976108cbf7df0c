"""Which changes of a picture can be seen: relative to its own noise, a change of so many grey levels.

A change is seen where it is large in itself, or where it is half as large and stands out from a blurred
view of the picture, in which noise averages out and an even stain does not.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic.fields import Field, T, blurred, largest

LEAST = 4.0
"""Grey levels that are seen where there is no noise."""
NOISES = 2.5
"""Standard deviations of the noise around that are seen on top of it."""
STRUCTURE = 0.3
"""Of the contrast to within a few px, which hides changes as well."""
MOST = 48.0
"""Grey levels that are seen everywhere."""
DOUBTFUL = 0.5
"""Of the limit: where smaller changes begin that may be seen or not."""
SMOOTHING_PX = 0.8
"""Standard deviation of the Gaussian over which a change counts."""
BROAD_PX = 2.6
"""Of the one of the blurred view."""
REDUCED = 4
"""So many times reduced the picture is about as smooth as the blurred view; its noise is measured there."""
WINDOWS = 8
"""The noise is estimated in so many places a side, at most."""
GAPS, INNER_GAPS = 1 / 64, 1 / 8
"""Of the shorter side: how wide gaps are in doubt between what is seen, anywhere and within one outline."""


class Limits(NamedTuple):
    """How many grey levels a change must have to be seen, at most MOST: float32 (H, W)."""

    fine: Field
    broad: Field
    """In the blurred view."""


def limits(picture: NDArray[np.uint8]) -> Limits:
    """What can be seen on the picture (H, W, C)."""
    height, width = picture.shape[:2]
    size = max(width // REDUCED, 1), max(height // REDUCED, 1)
    fine, broad = picture.astype(np.float32), cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    broad = blurred(broad.reshape(size[1], size[0], -1).astype(np.float32), 0.6)
    return Limits(
        *(
            np.minimum(cv2.resize(_limit(levels), (width, height), interpolation=cv2.INTER_LINEAR), MOST)
            for levels in (fine, broad)
        )
    )


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Field:
    """Grey levels (H, W) by which pictures (H, W, C) differ, lightly smoothed: of the channels the most."""
    return blurred(_difference(before, after).astype(np.float32), SMOOTHING_PX)


def seen(
    before: NDArray[np.uint8], after: NDArray[np.uint8], limit: Limits, outlines: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The mask (H, W) of what changed: 1 where one sees it, 0 where not, 255 where that is in doubt.

    In doubt are changes between DOUBTFUL of the limit and the limit, the rim of what is seen, and gaps in
    it, which within the `outlines` of defects, (H, W) of 0 and 1, are wide ones too.
    """
    mask = np.zeros(before.shape[:2], np.uint8)
    left, top, width, height = cv2.boundingRect(_difference(before, after))
    around = _side(GAPS, before) + int(4 * BROAD_PX)
    rows = slice(max(top - around, 0), top + height + around)
    columns = slice(max(left - around, 0), left + width + around)
    before, after, outlines = before[rows, columns], after[rows, columns], outlines[rows, columns]
    differs = change(before, after) / limit.fine[rows, columns]
    doubtful = differs >= DOUBTFUL
    broad = largest(np.abs(blurred(after.astype(np.float32) - before, BROAD_PX)))
    certain = (differs >= 1) | (doubtful & (broad >= limit.broad[rows, columns]))
    marked = certain.astype(np.uint8)
    doubt = cv2.dilate(_closed(marked, _side(GAPS, mask)), np.ones((3, 3), np.uint8))
    doubt |= _closed(marked, _side(INNER_GAPS, mask)) & outlines
    doubt |= doubtful
    # 255 × doubt, where not certain.
    mask[rows, columns] = np.where(certain, 1, doubt * np.uint8(255))
    return mask


def _difference(one: NDArray[T], other: NDArray[T]) -> NDArray[T]:
    """Absolute, of the channels the largest: (H, W) of (H, W, C)."""
    return largest(cv2.absdiff(one, other).reshape(one.shape))


def _side(share: float, picture: NDArray[np.uint8]) -> int:
    """An odd number of pixels."""
    return 2 * int(share * min(picture.shape[:2]) / 2) + 3


def _closed(marked: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return cv2.morphologyEx(marked, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))


def _limit(levels: Field) -> Field:
    """The limit (H, W) of (H, W, C), of the channels the largest."""
    detail = _difference(levels, blurred(levels, 1.5))
    limit = LEAST + NOISES * _noise(detail)
    limit = cv2.resize(limit, detail.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.scaleAdd(blurred(detail, 2), STRUCTURE, limit)


def _noise(detail: Field) -> Field:
    """Standard deviation of Gaussian noise in WINDOWS² places, at most, of what a blur takes away (H, W).

    Their lower quartiles: edges and bright points raise these only where they are nearly everywhere.
    """
    step = 1 + min(detail.shape) // (16 * WINDOWS)
    detail = detail[::step, ::step]
    down, across = (min(WINDOWS, max(side // 6, 1)) for side in detail.shape)
    height, width = detail.shape[0] // down, detail.shape[1] // across
    cut = detail[: down * height, : across * width].reshape(down, height, across, width)
    windows = cut.transpose(0, 2, 1, 3).reshape(down, across, -1)
    quarter = windows.shape[2] // 4
    return np.partition(windows, quarter, axis=2)[..., quarter] / np.float32(0.32)
