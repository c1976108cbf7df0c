"""Small sources with annotation files, for the tests of readers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pictures import encode, noise

from defectline.components.common.storage import open_storage
from defectline.components.ingest.readers.base import Layout, Listing, Marked, Record, Sidecar

HEIGHT, WIDTH = 30, 40


def write_files(source: Path, files: dict[str, Any]) -> Path:
    """Write files by their names: pictures where the content is None, JSON where it is not text or bytes."""
    for number, (name, content) in enumerate(files.items()):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            content = encode(noise(number, WIDTH)[:HEIGHT])
        elif not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return source


def listing(source: Path) -> Listing:
    storage = open_storage(str(source))
    return Listing(storage, storage.list())


def marked(record: Record, source: Path) -> Marked:
    """What a record says of its picture, read from its file where it is a Sidecar."""
    if isinstance(record.mask, Sidecar):
        return record.mask.parse((source / record.mask.key).read_bytes())
    return Marked(record.label, record.mask, record.legend)  # type: ignore[arg-type]


def drawn(record: Record, source: Path, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    """The mask of a record."""
    mask = marked(record, source).mask
    return mask.draw(*shape) if mask else np.zeros(shape, np.uint8)


def reasons(layout: Layout) -> dict[str, str]:
    """Id of each rejected pair → why."""
    return {pair.id: pair.reason for pair in layout.rejected}


def box(left: int, top: int, right: int, bottom: int, value: int = 1) -> NDArray[np.uint8]:
    """A mask of one box; the last column and row are not in it."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[top:bottom, left:right] = value
    return pixels
