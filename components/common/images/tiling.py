"""Frames larger than the network's input, cut into overlapping square tiles and put together again.

Tiles lie on a grid: the same for training and for inference, and a function of the frame's size alone.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.25
"""Neighbours share at least this part of a tile's side: a defect on a seam lies well inside one of them."""

A = TypeVar("A", bound=np.generic)


class Grid(NamedTuple):
    """Where the tiles of one frame lie; a tile's position is its upper left corner."""

    height: int
    width: int
    size: int
    """Side of a tile."""
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    @property
    def positions(self) -> list[tuple[int, int]]:
        """(y, x) of every tile, row by row."""
        return [(y, x) for y in self.ys for x in self.xs]


def tile_grid(height: int, width: int, size: int) -> Grid:
    """The fewest evenly spread tiles that cover the frame with OVERLAP.

    A frame that is shorter than a tile in a direction has one row, or column, that sticks out of it.
    """
    return Grid(height, width, size, _starts(height, size), _starts(width, size))


def _starts(length: int, size: int) -> tuple[int, ...]:
    if length <= size:
        return (0,)
    step = size - int(size * OVERLAP)
    last = length - size
    gaps = -(-last // step)
    return tuple(last * index // gaps for index in range(gaps + 1))


def cut_tile(frame: NDArray[A], y: int, x: int, size: int) -> NDArray[A]:
    """The tile at (y, x) of a frame (H, W) or (H, W, C), as (size, size) or (size, size, C).

    What sticks out of the frame is filled by reflection at its edge.
    """
    tile = frame[y : y + size, x : x + size]
    below, right = size - tile.shape[0], size - tile.shape[1]
    if below or right:
        tile = cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_REFLECT_101).reshape(
            size, size, *frame.shape[2:]
        )
    return tile


def blend_weights(starts: tuple[int, ...], length: int, size: int) -> NDArray[np.float32]:
    """Along one direction, how much each tile has to say about each of its pixels: (tiles, size).

    A tile counts less towards its edges, where the network sees little around a pixel. Over the tiles that
    cover a pixel the weights sum to 1.
    """
    ramp = np.minimum(np.arange(size) + 1, size - np.arange(size)).astype(np.float64)
    ramp = np.minimum(ramp, max(1, int(size * OVERLAP)))
    total = np.zeros(max(length, size))
    for start in starts:
        total[start : start + size] += ramp
    return np.stack([ramp / total[start : start + size] for start in starts]).astype(np.float32)


def stitch(grid: Grid, rows: Iterable[Iterable[NDArray[np.float32]]]) -> Iterator[NDArray[np.float32]]:
    """The frame's map from those of its tiles, as bands (h, W) or (h, W, C) from top to bottom.

    `rows` gives, for each row of tiles, their maps (size, size) or (size, size, C) from left to right. Only a
    band as high as a tile is held in memory.
    """
    size, width = grid.size, max(grid.width, grid.size)
    down = blend_weights(grid.ys, grid.height, size)[:, :, None]
    across = blend_weights(grid.xs, grid.width, size)
    band: NDArray[np.float32] | None = None
    for index, (y, maps) in enumerate(zip(grid.ys, rows, strict=True)):
        for x, weights, tile in zip(grid.xs, across, maps, strict=True):
            if band is None:
                band = np.zeros((size, width, *tile.shape[2:]), np.float32)
            share = down[index] * weights
            band[:, x : x + size] += (share if tile.ndim == 2 else share[..., None]) * tile
        end = grid.ys[index + 1] if index + 1 < len(grid.ys) else grid.height
        done = end - y
        assert band is not None
        yield band[:done, : grid.width].copy()
        # What the next row of tiles still adds to moves to the top.
        band[: size - done] = band[done:]
        band[size - done :] = 0
