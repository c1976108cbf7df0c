"""The files of a prepared dataset's arrays, written row by row from any process."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from defectline.components.common.errors import StoreError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.storage.base import local_file


class ArrayFile(NamedTuple):
    """A .npy file, uint8 (count, *shape), whose rows are written in any order.

    Written with system calls, not through a mapping: a mapping takes three times as long, and would end the
    process without a word where the disk is full.
    """

    path: Path
    start: int
    """Bytes before the first row."""
    shape: tuple[int, ...]
    """Of a row."""

    @classmethod
    def new(cls, path: Path, count: int, shape: tuple[int, ...]) -> Self:
        return cls(path, open_memmap(path, "w+", np.uint8, (count, *shape)).offset, shape)

    def write(self, index: int, row: NDArray[np.uint8]) -> None:
        """Raises StoreError where the disk is full."""
        assert row.shape == self.shape
        rest = np.ascontiguousarray(row).data.cast("B")
        position = self.start + index * len(rest)
        with local_file(self.path), self.path.open("r+b", buffering=0) as file:
            while rest:
                written = os.pwrite(file.fileno(), rest, position)
                rest, position = rest[written:], position + written


class Arrays(NamedTuple):
    """Images (count, size, size, channels) and masks (count, size, size) of a dataset."""

    images: ArrayFile
    masks: ArrayFile

    @classmethod
    def new(cls, dataset: Path, count: int, imaging: ImagingSettings) -> Self:
        """The files for `count` images and masks. Raises StoreError where the disk has no room."""
        size, channels = imaging.image_size, imaging.channels
        with local_file(dataset):
            dataset.mkdir(parents=True, exist_ok=True)
            needed, free = count * size * size * (channels + 1), shutil.disk_usage(dataset).free
            if needed > free:
                raise StoreError(
                    f"The prepared dataset does not fit on the disk of {dataset}.",
                    got=f"{free / 1e6:,.0f} MB free",
                    expected=f"{needed / 1e6:,.0f} MB for {count} pictures",
                    fix="Free some space, or choose a smaller image_size.",
                )
            return cls(
                ArrayFile.new(dataset / "images.npy", count, (size, size, channels)),
                ArrayFile.new(dataset / "masks.npy", count, (size, size)),
            )
