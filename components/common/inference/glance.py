"""A first look at a frame of many tiles, at half its resolution: most tiles need no second one."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.inference.class_maps import LEVELS

FEWEST_TILES = 9
"""With fewer tiles a first look saves nothing."""
AROUND_PX = 8
"""How far from a tile, in the frame's pixels, what is seen at half resolution still concerns it."""


def halve(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame (H, W, C) at half its resolution, each side rounded up."""
    height, width, channels = frame.shape
    half = cv2.resize(frame, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.uint8).reshape(*half.shape[:2], channels)


class Glance(NamedTuple):
    """What was seen at half resolution."""

    score_map: NDArray[np.uint16]
    """(⌈H/2⌉, ⌈W/2⌉), in thousandths."""
    level: int
    """From this score on, in thousandths, a tile is looked at in full."""
    features: NDArray[np.float32] | None = None
    """As in Maps."""

    def suspects(self, y: int, x: int, size: int) -> bool:
        """Whether the tile at (y, x) of the whole frame has to be looked at in full."""
        return bool((self._window(y - AROUND_PX, x - AROUND_PX, size + 2 * AROUND_PX) >= self.level).any())

    def tile(self, y: int, x: int, size: int, outputs: int) -> NDArray[np.float32]:
        """The probability in a tile that is not suspected, as the network would give it: that of a defect,
        (size, size), for one class, else those of good and of each class, of which the first gets all."""
        found = self._window(y, x, size)
        # What sticks out of the frame.
        below, right = (max(0, -(-size // 2) - side) for side in found.shape)
        found = np.pad(found, ((0, below), (0, right)))
        # Nothing here reaches the level, and interpolation does not raise it.
        larger = cv2.resize(found.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) / LEVELS
        defect = np.asarray(larger, np.float32)
        if outputs <= 2:
            return defect
        return np.dstack([1 - defect, defect, np.zeros((size, size, outputs - 2), np.float32)])

    def _window(self, y: int, x: int, size: int) -> NDArray[np.uint16]:
        top, left = max(0, y) // 2, max(0, x) // 2
        return self.score_map[top : -(-(y + size) // 2), left : -(-(x + size) // 2)]
