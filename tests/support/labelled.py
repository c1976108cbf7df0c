"""What the tests of the readers share: sources from files or archives, and what a record marks."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parts import HEIGHT, WIDTH

from defectline.components.common.classes import IGNORE
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.storage import Object
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers.base import Listing, Marked, Record, Sidecar

EXPORTS = Path(__file__).parents[1] / "ingest" / "readers" / "exports"


def write_files(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for key, data in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def unpack(name: str, root: Path) -> Path:
    """The export of a tool that `exports/make.py` made."""
    with zipfile.ZipFile(EXPORTS / f"{name}.zip") as archive:
        archive.extractall(root)
    return root


def listing(root: Path) -> Listing:
    source = FolderStorage(root)
    return Listing(source, source.list())


def marked(record: Record, found: Listing) -> Marked:
    """Label, mask and legend of a record, read where they stand in a file of their own."""
    if isinstance(record.mask, Sidecar):
        return record.mask.parse(found.read(record.mask.key))
    mask = record.mask
    return Marked(record.label, None if isinstance(mask, Object) else mask, record.legend)


def truth(
    record: Record, found: Listing, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> dict[str, NDArray[np.bool_]]:
    """Where each class is in the record's picture, as ingest sees it; `ignore` does not count."""
    said = marked(record, found)
    if isinstance(record.mask, Object):
        values = decode_mask(found.read(record.mask.key), record.legend.startswith("["))
    else:
        values = said.mask.draw(*size) if said.mask else np.zeros(size, np.uint8)
    names = json.loads(said.legend) if said.legend else [f"value {number}" for number in range(1, 256)]
    called: dict[str, NDArray[np.bool_]] = {}
    for value in np.unique(values[values > 0]).tolist():
        name = (
            names
            if isinstance(names, str)
            else "ignore"
            if value == IGNORE and said.legend
            else names[value - 1]
        )
        called[name] = called.get(name, False) | (values == value)
    return called


def same(one: Mapping[str, NDArray[np.bool_]], two: Mapping[str, NDArray[np.bool_]]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
