"""The preprocess step: from a snapshot's files to arrays that are ready to train on."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.imaging import (
    ImagingSettings,
    decode_image,
    decode_mask,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, read_files, read_pairs, read_snapshot
from defectline.components.common.steps import step, track
from defectline.components.common.storage import open_storage

AHEAD = 256
"""Pairs that may be in memory at once."""


def preprocess(store: str, snapshot: str, dataset: Path, settings: Mapping[str, object]) -> None:
    """Write the prepared dataset of a snapshot's train and validation splits into the folder `dataset`.

    `settings` are the fields of ImagingSettings. Each picture is enhanced at its own size, then resized.
    Memory stays flat: the arrays are on disk.
    """
    with step("preprocess") as report:
        imaging = checked(ImagingSettings, **settings)
        storage = open_storage(store)
        pairs = sorted(p for p in read_pairs(storage, snapshot) if p.split in ("train", "validation"))
        pairs = [p for p in pairs if p.status == "accepted"]
        dataset.mkdir(parents=True, exist_ok=True)
        size, channels = imaging.image_size, imaging.channels
        images = open_memmap(
            dataset / "images.npy", "w+", dtype=np.uint8, shape=(len(pairs), size, size, channels)
        )
        masks = open_memmap(dataset / "masks.npy", "w+", dtype=np.uint8, shape=(len(pairs), size, size))
        rows = []

        def prepare(files: tuple[Pair, bytes, bytes]) -> tuple[Pair, NDArray[np.uint8], NDArray[np.uint8]]:
            pair, image, mask = files
            return (
                pair,
                prepare_image(decode_image(image, channels), imaging),
                prepare_mask(decode_mask(mask), imaging),
            )

        # One picture a thread: OpenCV's own threads would only fight over the same cores.
        cv2.setNumThreads(1)
        files = read_files(storage, pairs)
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            batches = iter(lambda: list(islice(files, AHEAD)), [])
            prepared = chain.from_iterable(workers.map(prepare, batch) for batch in batches)
            for index, (pair, image, mask) in enumerate(track(prepared, len(pairs), "preparing pictures")):
                images[index], masks[index] = image, mask
                rows.append(Row(id=pair.id, label=pair.label, split=pair.split))
        images.flush()
        masks.flush()
        fingerprint = read_snapshot(storage, snapshot).fingerprint
        content = Prepared(snapshot=snapshot, fingerprint=fingerprint, imaging=imaging, rows=rows)
        (dataset / "dataset.json").write_text(content.model_dump_json(indent=2))
        report.did = f"{len(rows)} pictures at {size}×{size}×{channels}" + (
            ", enhanced" if imaging.enhance else ""
        )
