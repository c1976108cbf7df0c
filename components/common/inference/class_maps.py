"""How likely each class of defects is, where in a picture: what a region's class is taken from.

A frame of many tiles has a map of each class. Together they take at most MOST_BYTES: those of
larger frames are kept at a half, a third, … of the size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 64_000_000
LEVELS = 1000


class ClassMaps(NamedTuple):
    """The probability of each class in thousandths, at the size of the network's output or of a frame."""

    names: Sequence[str]
    levels: NDArray[np.uint16]
    """(h, w, K)"""
    rows: NDArray[np.int64]
    """(H,): which row of `levels` holds each row of the picture."""
    columns: NDArray[np.int64]
    """(W,)"""

    def means(self, labels: NDArray[np.int32], top: int, left: int, count: int) -> NDArray[np.float64]:
        """Mean probability (count, K) of each class in the regions 1 to `count` of `labels` (h, w), whose
        upper left corner lies at `top` and `left` of the picture."""
        sums = np.zeros((1 + count, len(self.names)))
        areas = np.zeros(1 + count, np.int64)
        columns = self.columns[left : left + labels.shape[1]]
        for rows in bands(labels):
            inside = labels[rows].ravel()
            areas += np.bincount(inside, minlength=1 + count)
            if not inside.any():
                continue
            here = self.levels[self.rows[top + rows.start : top + rows.start + len(labels[rows])]]
            for number in range(len(self.names)):
                sums[:, number] += np.bincount(inside, here[:, columns, number].ravel(), minlength=1 + count)
        return sums[1:] / np.maximum(areas[1:, None], 1) / LEVELS


def bands(picture: NDArray) -> Iterator[slice]:
    """Its rows in parts of about a megapixel, for work whose intermediate results would be large."""
    step = max(1, 2**20 // max(1, picture[0].size)) if len(picture) else 1
    return (slice(top, top + step) for top in range(0, len(picture), step))


def of_output(names: Sequence[str], classes: NDArray[np.float32], height: int, width: int) -> ClassMaps:
    """The maps of a picture (height, width) from a network's output (S, S, K) for it."""
    sides = (height, len(classes)), (width, classes.shape[1])
    rows, columns = (np.arange(length) * side // length for length, side in sides)
    return ClassMaps(names, _to_levels(classes), rows, columns)


class Collector:
    """Takes a frame's probabilities, (h, W, K), band after band from top to bottom."""

    def __init__(self, names: Sequence[str], height: int, width: int):
        self.names, self.height, self.width = names, height, width
        self.step = max(1, math.ceil(math.sqrt(2 * len(names) * height * width / MOST_BYTES)))
        size = -(-height // self.step), -(-width // self.step), len(names)
        self.levels = np.empty(size, np.uint16)
        self.rest: list[NDArray[np.float32]] = []
        self.done = 0

    def see(self, band: NDArray[np.float32]) -> None:
        rows = np.concatenate([*self.rest, band]) if self.rest else band
        whole = len(rows) - len(rows) % self.step
        self._keep(rows[:whole])
        self.rest = [rows[whole:]] if whole < len(rows) else []

    def maps(self) -> ClassMaps:
        """After the last band."""
        if self.rest:
            self._keep(self.rest.pop())
        rows, columns = (np.arange(length) // self.step for length in (self.height, self.width))
        return ClassMaps(self.names, self.levels, rows, columns)

    def _keep(self, rows: NDArray[np.float32]) -> None:
        if len(rows):
            shrunk = _to_levels(_means(_means(rows, 0, self.step), 1, self.step))
            self.levels[self.done : self.done + len(shrunk)] = shrunk
            self.done += len(shrunk)


def _means(values: NDArray[np.float32], axis: int, step: int) -> NDArray[np.float32]:
    """Means of `step` neighbours each, of fewer at the end."""
    if step == 1:
        return values
    starts = np.arange(0, values.shape[axis], step)
    sizes = np.minimum(step, values.shape[axis] - starts).astype(np.float32)
    shape = [-1 if one == axis else 1 for one in range(values.ndim)]
    return np.add.reduceat(values, starts, axis=axis) / sizes.reshape(shape)


def _to_levels(probabilities: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(np.clip(probabilities, 0, 1) * LEVELS).astype(np.uint16)


def with_bands(maps: Iterable[NDArray[np.float32]], collector: Collector) -> Iterator[NDArray[np.float32]]:
    """The probability of any defect, (h, W), of bands (h, W, 1 + K), whose classes the collector sees."""
    for band in maps:
        collector.see(band[..., 1:])
        yield 1 - band[..., 0]
