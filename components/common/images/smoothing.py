"""Masks whose edges a drawing program, a resampling or JPEG smoothed: what was black and what was white."""

import cv2
import numpy as np
from numpy.typing import NDArray

RINGING = 40
"""How far from 0 and 255 a smoothed mask may be anywhere: JPEG of quality 75 strays up to 37."""
EDGE_PX = 2
"""How far from an edge of its threshold a smoothed mask may hold any value."""
MOST_FLAT = 0.05
"""Of the values between black and white: on a slope only few are as their neighbours are."""
MOST_ALIKE = 0.25
"""Of the values between black and white: on slopes none is much more frequent than the others."""
DOMINATE = 0.5
"""Of a picture: black, and the most frequent white."""
SPECK_PX = 4
"""Of a region that never gets white and is what resampling left."""


def split(grey: NDArray[np.uint8], lossy: bool = False) -> NDArray[np.uint8] | None:
    """A smoothed mask (H, W) split at half, 0 and 1; None where its values say more than that.

    Values between black and white, further than RINGING from both, lie within EDGE_PX of an edge or, where
    black and one white fill most of the picture, on slopes. Numbers of classes, with 255 for
    "ignore", leave a gap that no smoothing leaves, unless a `lossy` file holds none.
    """
    above = grey > RINGING
    if not lossy and not np.any(above & (grey < 255)):
        return None
    truth = (grey >= 128).astype(np.uint8)
    white = grey >= 255 - RINGING
    between = above & ~white
    if not white.any() and grey.any():
        return None
    # A thin grey scratch lies within its own edges, but is another class or a doubt, not a white one.
    if _near_edges(between, truth) and not _never_white(truth, white):
        return truth
    if _on_slopes(grey, between) and _never_white(above.astype(np.uint8), white) <= SPECK_PX:
        return truth
    return None


def _near_edges(between: NDArray[np.bool_], truth: NDArray[np.uint8]) -> bool:
    around = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    return not np.any(between & (cv2.dilate(truth, around) == cv2.erode(truth, around)))


def _on_slopes(grey: NDArray[np.uint8], between: NDArray[np.bool_]) -> bool:
    counts = np.bincount(grey.ravel(), minlength=256)
    black, others, white = counts[: RINGING + 1], counts[RINGING + 1 : 255 - RINGING], counts[255 - RINGING :]
    if others.max() > MOST_ALIKE * others.sum() or others.max() >= white.max():
        return False
    if black.sum() + white.max() < DOMINATE * grey.size:
        return False
    around = np.ones((3, 3), np.uint8)
    flat = between & (cv2.dilate(grey, around) - cv2.erode(grey, around) <= 1)
    return bool(np.count_nonzero(flat) <= MOST_FLAT * others.sum())


def _never_white(marked: NDArray[np.uint8], white: NDArray[np.bool_]) -> int:
    """Pixels of the largest connected region (8 neighbours) that has no white."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    reached = np.zeros(count, bool)
    reached[regions[white]] = True
    return int(stats[1:, cv2.CC_STAT_AREA][~reached[1:]].max(initial=0))
