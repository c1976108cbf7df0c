"""What is done to pictures, in worker processes: a job is some pictures of one pack."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defectline.components.common.classes import defect_mask
from defectline.components.common.images.imaging import (
    ImagingSettings,
    frame_grid,
    prepare_frame,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.images.reading import decode_image
from defectline.components.common.images.statistics import ImageStats, brightness_and_contrast
from defectline.components.common.images.tiling import cut_tile
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import Packed
from defectline.components.preprocess.arrays import Arrays
from defectline.components.preprocess.tiles import Position, tiles_with_defects


class Picture(NamedTuple):
    packed: Packed
    row: int
    """Index of its row in the arrays or, with tiles, of its first one."""
    tiles: Sequence[Position]


class Job(NamedTuple):
    pack: Path
    pictures: list[Picture]
    last: bool
    """Whether no other job needs the pack."""

    def read(self) -> Iterator[tuple[Picture, bytes, bytes]]:
        with self.pack.open("rb") as pack:
            for picture in self.pictures:
                yield picture, *picture.packed.read(pack)


def prepare(job: Job, arrays: Arrays, imaging: ImagingSettings, names: Names) -> list[ImageStats | None]:
    """Write the rows of each picture; what it looks like where it is trained on, else None."""
    return [_prepare(*files, arrays, imaging, names) for files in job.read()]


def _prepare(
    picture: Picture,
    image_bytes: bytes,
    mask_bytes: bytes,
    arrays: Arrays,
    imaging: ImagingSettings,
    names: Names,
) -> ImageStats | None:
    image, pair = decode_image(image_bytes, imaging.channels), picture.packed.pair
    mask = names.truth(mask_bytes, image.shape[:2], pair)
    if imaging.tile:
        frame, size = prepare_frame(image, imaging), imaging.image_size
        for offset, (y, x) in enumerate(picture.tiles):
            arrays.images.write(picture.row + offset, cut_tile(frame, y, x, size))
            arrays.masks.write(picture.row + offset, cut_tile(mask, y, x, size))
    else:
        arrays.images.write(picture.row, prepare_image(image, imaging))
        arrays.masks.write(picture.row, prepare_mask(mask, imaging))
    if pair.split != "train":
        return None
    return ImageStats(
        *brightness_and_contrast(image), int(np.count_nonzero(defect_mask(mask))), pair.label == "NG"
    )


def find_defects(job: Job, imaging: ImagingSettings, names: Names) -> list[tuple[str, list[Position]]]:
    """Each picture's id, and the tiles of it in which there is a defect."""
    found = []
    for picture, _, mask in job.read():
        pair = picture.packed.pair
        grid = frame_grid(pair.height, pair.width, imaging)
        truth = names.truth(mask, (pair.height, pair.width), pair)
        found.append((pair.id, tiles_with_defects(grid, truth)))
    return found
