"""Which tiles of a picture are trained on: those with a defect, and a share of the others."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import defect_mask
from defectline.components.common.images.tiling import Grid

Position = tuple[int, int]
"""(y, x) of a tile's upper left corner."""


def choose_tiles(picture: str, grid: Grid, defects: Sequence[Position], empty: float) -> list[Position]:
    """All of `defects`, and of the other tiles the share `empty` (0 to 1), row by row; at least one.

    What is drawn depends on the picture's id and the tile's position alone, so that neither other pictures
    nor shards change it.
    """
    kept = {tile for tile in grid.positions if _draw(picture, tile) < empty} | set(defects)
    return sorted(kept or {min(grid.positions, key=lambda tile: _draw(picture, tile))})


def tiles_with_defects(grid: Grid, mask: NDArray[np.uint8]) -> list[Position]:
    """Positions of the tiles in which the mask (H, W) has a defect that counts."""
    size, defects = grid.size, defect_mask(mask)
    return [(y, x) for y, x in grid.positions if defects[y : y + size, x : x + size].any()]


def _draw(picture: str, tile: Position) -> float:
    """A number from 0 up to, but not including, 1."""
    digest = hashlib.sha256(f"{picture}\t{tile[0]}\t{tile[1]}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
