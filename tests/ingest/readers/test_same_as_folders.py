"""The same pictures in any format and in folders: the same pixels, classes and splits."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from labelled import listing, write_files
from layouts import LAYOUTS, expected, part_of
from parts import HEIGHT, WIDTH
from pictures import QUARANTINE, encode

from defectline.components.common.legend import Names
from defectline.components.common.snapshot import read_files, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import choose
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot


class Seen(NamedTuple):
    classes: tuple[str, ...]
    pictures: dict[str, tuple[str, str, str, bytes]]
    """Pixel hash → label, split, group and mask."""


def seen(source: Path, store: Path) -> Seen:
    """What a snapshot of a source holds."""
    into = FolderStorage(store)
    snapshot = take_snapshot(FolderStorage(source), into, QUARANTINE, IngestSettings(max_rejected=0)).snapshot
    pictures = {
        pair.pixel_sha256: (
            pair.label,
            pair.split,
            pair.group,
            Names.of(into, snapshot, [pair]).truth(mask, (HEIGHT, WIDTH), pair).tobytes(),
        )
        for pair, _, mask in read_files(into, read_pairs(into, snapshot.id))
    }
    return Seen(snapshot.classes, pictures)


def in_folders(source: Path, root: Path) -> Path:
    """The pictures of a source with what its format says of them, written as folders."""
    found = listing(source)
    reader, _ = choose(found)
    records = reader.read(found).records
    truths = {record.stem: expected(reader.NAME, part_of(record.stem)) for record in records}
    names = sorted({name for truth in truths.values() for name in truth})
    complete = {record.split for record in records} >= {"train", "validation", "test"}
    files: dict[str, bytes | str] = {}
    rows = ["id,split,group"]
    for record in records:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for name, pixels in truths[record.stem].items():
            mask[pixels] = names.index(name) + 1
        label, name = "NG" if mask.any() else "OK", record.stem.replace("/", "-")
        files[f"{label}/{name}{Path(record.image.key).suffix}"] = found.read(record.image.key)
        files[f"{label}_MSK/{name}.png"] = encode(mask)
        split = record.split if complete or record.split == "test" else ""
        if split or record.group:
            rows.append(f"{label}/{name},{split},{record.group}")
    files["classes.csv"] = "\n".join(["value,name", *(f"{n},{name}" for n, name in enumerate(names, 1))])
    if len(rows) > 1:
        files["splits.csv"] = "\n".join(rows)
    return write_files(root, files)


@pytest.mark.parametrize("example", LAYOUTS)
def test_any_format_is_as_in_folders(tmp_path: Path, example: str):
    name, write = LAYOUTS[example]
    source = write(tmp_path / "source")
    found = seen(source, tmp_path / "store")
    assert found == seen(in_folders(source, tmp_path / "folders"), tmp_path / "other")
    assert len(found.pictures) == 12
    classes = {"kolektor": ("defect",), "mvtec": ("combined", "dent", "scratch")}
    assert found.classes == classes.get("mvtec" if name == "visa" else name, ("dent", "scratch"))
