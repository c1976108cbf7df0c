"""The preprocess step: from a snapshot's files to arrays that are ready to train on."""

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.errors import StoreError
from defectline.components.common.imaging import (
    ImagingSettings,
    decode_image,
    decode_truth,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, read_files, read_pairs, read_snapshot
from defectline.components.common.steps import step, track
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.base import local_file

WORKERS = min(8, os.cpu_count() or 1)
"""A pod sees all processors of its node; each picture at work takes about ten bytes a pixel."""

T = TypeVar("T")
R = TypeVar("R")


def preprocess(store: str, snapshot: str, dataset: Path, settings: Mapping[str, object]) -> None:
    """Write the prepared dataset of a snapshot's train and validation splits into the folder `dataset`.

    `settings` are the fields of ImagingSettings. Each picture is enhanced at its own size, then resized.
    Rows are in the order of ids. Memory stays flat: the arrays are on disk.
    """
    with step("preprocess") as report:
        imaging = checked(ImagingSettings, **settings)
        storage = open_storage(store)
        accepted = sorted(p for p in read_pairs(storage, snapshot) if p.status == "accepted")
        pairs = [p for p in accepted if p.split in ("train", "validation")]
        images, masks = _new_arrays(dataset, len(pairs), imaging)
        position = {pair.id: index for index, pair in enumerate(pairs)}

        def prepare(files: tuple[Pair, bytes, bytes]) -> tuple[Pair, NDArray[np.uint8], NDArray[np.uint8]]:
            pair, image, mask = files
            pixels = decode_image(image, imaging.channels)
            truth = decode_truth(mask, pixels.shape[:2])
            return pair, prepare_image(pixels, imaging), prepare_mask(truth, imaging)

        # One picture a thread: OpenCV's own threads would only fight over the same cores.
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(WORKERS) as workers:
            prepared = _map_ahead(workers, prepare, read_files(storage, pairs), 2 * WORKERS)
            for pair, image, mask in track(prepared, len(pairs), "preparing pictures"):
                images[position[pair.id]], masks[position[pair.id]] = image, mask
        images.flush()
        masks.flush()
        rows = [Row(id=pair.id, label=pair.label, split=pair.split) for pair in pairs]
        fingerprint = read_snapshot(storage, snapshot).fingerprint
        content = Prepared(snapshot=snapshot, fingerprint=fingerprint, imaging=imaging, rows=rows)
        # Last, so that a dataset with this file is complete.
        (dataset / "dataset.json").write_text(content.model_dump_json(indent=2))
        report.did = (
            f"{len(rows)} pictures at {imaging.image_size}×{imaging.image_size}×{imaging.channels}"
            + (", enhanced" if imaging.enhance else "")
        )


def _new_arrays(dataset: Path, count: int, imaging: ImagingSettings) -> tuple[np.memmap, np.memmap]:
    """The files for `count` images and masks, uint8. Raises StoreError where the disk has no room."""
    size, channels = imaging.image_size, imaging.channels
    with local_file(dataset):
        dataset.mkdir(parents=True, exist_ok=True)
        needed, free = count * size * size * (channels + 1), shutil.disk_usage(dataset).free
        if needed > free:
            # Writing to a mapped file on a full disk would end the process without a word.
            raise StoreError(
                f"The prepared dataset does not fit on the disk of {dataset}.",
                got=f"{free / 1e6:,.0f} MB free",
                expected=f"{needed / 1e6:,.0f} MB for {count} pictures",
                fix="Free some space, or choose a smaller image_size.",
            )
        images = open_memmap(dataset / "images.npy", "w+", np.uint8, (count, size, size, channels))
        masks = open_memmap(dataset / "masks.npy", "w+", np.uint8, (count, size, size))
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
