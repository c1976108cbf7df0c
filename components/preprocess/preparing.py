"""The preprocess step: from a snapshot's files to arrays that are ready to train on.

1. Take this shard's part of the pictures, sorted by id.
2. With tiles: look at the masks, to know which tiles there will be.
3. Decode, enhance, and resize or cut every picture, one a thread, straight into the files of the arrays.
4. Write what the training pictures look like, and the index.
"""

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.errors import SettingsError, SourceError, StoreError
from defectline.components.common.imaging import (
    ImagingSettings,
    UnreadableImage,
    decode_image,
    decode_mask,
    decode_truth,
    frame_grid,
    prepare_frame,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, read_files, read_pairs, read_snapshot
from defectline.components.common.statistics import Look, Statistics, light
from defectline.components.common.steps import step, track
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.base import local_file
from defectline.components.common.tiling import Grid, cut_tile
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.preprocess.tiles import Position, choose_tiles, tiles_with_defects

WORKERS = min(8, os.cpu_count() or 1)
"""A pod sees all processors of its node; each picture at work takes about ten bytes a pixel."""

T = TypeVar("T")
R = TypeVar("R")


def preprocess(
    store: str,
    snapshot: str,
    dataset: Path,
    settings: Mapping[str, object],
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write a shard of the prepared dataset of a snapshot's train and validation splits into `dataset`.

    `settings` are the fields of PreprocessSettings. Shard 0 of 1 is the whole dataset; a shard may be empty.
    Each picture is enhanced at its own size, then resized, or cut into tiles. Rows are in the order of ids,
    and of tiles from top left to bottom right. Memory stays flat: the arrays are on disk.
    """
    with step("preprocess", shard, shards) as report:
        chosen = checked(PreprocessSettings, **settings)
        imaging, size = chosen.imaging, chosen.image_size
        _check_shard(shard, shards)
        storage = open_storage(store)
        accepted = sorted(p for p in read_pairs(storage, snapshot) if p.status == "accepted")
        pairs = [p for p in accepted if p.split in ("train", "validation")]
        pairs = pairs[shard * len(pairs) // shards : (shard + 1) * len(pairs) // shards]

        # One picture a thread: OpenCV's own threads would only fight over the same cores.
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(WORKERS) as workers:
            tiles = _plan_tiles(workers, storage, pairs, chosen) if chosen.tile else {}
            rows = [
                Row(id=pair.id, label=pair.label, split=pair.split, tile=tile)
                for pair in pairs
                for tile in tiles.get(pair.id, [None])
            ]
            first: dict[str, int] = {}
            for index, row in enumerate(rows):
                first.setdefault(row.id, index)
            images, masks = _new_arrays(dataset, len(rows), imaging)

            def prepare(files: tuple[Pair, bytes, bytes]) -> Look | None:
                pair, image_bytes, mask_bytes = files
                image, index = decode_image(image_bytes, imaging.channels), first[pair.id]
                mask = decode_truth(mask_bytes, image.shape[:2])
                if imaging.tile:
                    frame = prepare_frame(image, imaging)
                    for offset, (y, x) in enumerate(tiles[pair.id]):
                        images[index + offset] = cut_tile(frame, y, x, size)
                        masks[index + offset] = cut_tile(mask, y, x, size)
                else:
                    images[index], masks[index] = prepare_image(image, imaging), prepare_mask(mask, imaging)
                if pair.split != "train":
                    return None
                return Look(*light(image), cv2.countNonZero(mask), pair.label == "NG")

            looks = _map_ahead(workers, prepare, read_files(storage, pairs), 2 * WORKERS)
            statistics = Statistics.of(
                look for look in track(looks, len(pairs), "preparing pictures") if look is not None
            )
        images.close()
        masks.close()
        statistics.write(dataset)
        content = Prepared(
            snapshot=snapshot,
            fingerprint=read_snapshot(storage, snapshot).fingerprint,
            imaging=imaging,
            empty_tiles=chosen.empty_tiles if chosen.tile else None,
            shard=shard,
            shards=shards,
            rows=rows,
        )
        # Last, so that a dataset with this file is complete.
        (dataset / "dataset.json").write_text(content.model_dump_json(indent=2, exclude_none=True))
        report.did = (
            (f"{len(rows)} tiles of " if imaging.tile else "")
            + f"{len(pairs)} pictures at {size}×{size}×{imaging.channels}"
            + (", enhanced" if imaging.enhance else "")
        )


def _check_shard(shard: int, shards: int) -> None:
    if not 0 <= shard < shards:
        raise SettingsError(
            f"There is no shard {shard} of {shards}.",
            got=f"shard={shard} shards={shards}",
            expected="a shard from 0 to shards - 1",
            fix="Correct shard or shards.",
        )


def _plan_tiles(
    workers: ThreadPoolExecutor, storage: Storage, pairs: Sequence[Pair], settings: PreprocessSettings
) -> dict[str, list[Position]]:
    """The tiles to keep of each picture, by its id.

    Only masks with a defect, of pictures that have several tiles, are read for it.
    """
    grids = {pair.id: _grid(pair, settings) for pair in pairs}
    unsure = [pair for pair in pairs if pair.defect_px and len(grids[pair.id].positions) > 1]

    def find(files: tuple[Pair, bytes, bytes]) -> tuple[str, list[Position]]:
        pair, _, mask = files
        return pair.id, tiles_with_defects(grids[pair.id], decode_mask(mask))

    found = _map_ahead(workers, find, read_files(storage, unsure), 2 * WORKERS)
    defects = dict(track(found, len(unsure), "looking for defects"))
    return {
        picture: choose_tiles(picture, grid, defects.get(picture, []), settings.empty_tiles)
        for picture, grid in grids.items()
    }


def _grid(pair: Pair, imaging: ImagingSettings) -> Grid:
    try:
        return frame_grid(pair.height, pair.width, imaging)
    except UnreadableImage as error:
        raise SourceError(
            f"{pair.id}: {error.what}", got=error.got, expected=error.expected, fix=error.fix
        ) from error


class ArrayFile:
    """A .npy file, uint8 (count, *shape), whose rows are written in any order and from any thread.

    Written with system calls, not through a mapping: a mapping takes three times as long, and would end the
    process without a word where the disk is full.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]):
        header = open_memmap(path, "w+", np.uint8, (count, *shape))
        self.path, self.shape, self.start = path, shape, header.offset
        self.file = path.open("r+b", buffering=0)

    def __setitem__(self, index: int, row: NDArray[np.uint8]) -> None:
        assert row.shape == self.shape
        rest = np.ascontiguousarray(row).data.cast("B")
        place = self.start + index * len(rest)
        with local_file(self.path):
            while rest:
                written = os.pwrite(self.file.fileno(), rest, place)
                rest, place = rest[written:], place + written

    def close(self) -> None:
        self.file.close()


def _new_arrays(dataset: Path, count: int, imaging: ImagingSettings) -> tuple[ArrayFile, ArrayFile]:
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
        images = ArrayFile(dataset / "images.npy", count, (size, size, channels))
        masks = ArrayFile(dataset / "masks.npy", count, (size, size))
    return images, masks


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """`pool.map(function, items)`, with at most `ahead` items taken and not yet yielded."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) == ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
