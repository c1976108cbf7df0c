"""Small labelled pictures for the tests of ingest and preprocess."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from defectline.components.common.snapshot import Pair, Snapshot, read_pairs
from defectline.components.common.storage import Object
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot

SIZE = 16
QUARANTINE = "runs/r/quarantine.csv"


def encode(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **options)
    return out.getvalue()


def noise(number: int, size: int = SIZE) -> NDArray[np.uint8]:
    """A grey picture, uint8 (size, size), another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)


def mask(defect: bool, size: int = SIZE) -> NDArray[np.uint8]:
    """A mask, uint8 (size, size) of 0 and 255; a defect is 3×3."""
    pixels = np.zeros((size, size), np.uint8)
    if defect:
        pixels[4:7, 4:7] = 255
    return pixels


def with_palette(indices: NDArray[np.uint8], colours: list[int]) -> Image.Image:
    """A picture of indices into the colours, three numbers each."""
    picture = Image.fromarray(indices, "L")
    picture.putpalette(colours)
    return picture


def turned(orientation: int) -> Image.Exif:
    """EXIF data that says how the camera was held: 1 to 8."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def write_pair(source: Path, label: str, number: int, picture: int | None = None) -> Path:
    """Write the pair `number` with the picture of that number, or another; returns the image's path."""
    image = source / label / f"{number:05d}_{label}_Image.png"
    truth = source / f"{label}_MSK" / f"{number:05d}_{label}_Mask.png"
    for path, pixels in (
        (image, noise((label == "NG") * 10_000 + number if picture is None else picture)),
        (truth, mask(label == "NG")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels))
    return image


def write_source(source: Path, numbers: Iterable[int]) -> Path:
    """Write pairs of both labels with these numbers."""
    for number in numbers:
        for label in ("OK", "NG"):
            write_pair(source, label, number)
    return source


def remove_pair(source: Path, label: str, number: int) -> None:
    (source / label / f"{number:05d}_{label}_Image.png").unlink()
    (source / f"{label}_MSK" / f"{number:05d}_{label}_Mask.png").unlink()


def accepted(number: int, label: str, split: str = "") -> Pair:
    """A pair that passed the checks, without files."""
    return Pair(
        f"{label}/{number:05d}",
        label,
        "accepted",
        f"{label}/{number:05d}.png",
        f"{label}_MSK/{number:05d}.png",
        image_sha256=f"{number:032x}" + label.encode().hex().ljust(32, "0"),
        mask_sha256=f"{number:064x}",
        pixel_sha256=f"{number * 7919 % 65537:032x}" + label.encode().hex().ljust(32, "0"),
        split=split,
    )


class CountingFolder(FolderStorage):
    """A folder that remembers which keys were read."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.keys_read: list[str] = []

    def read(self, key: str, version: str = "") -> bytes:
        self.keys_read.append(key)
        return super().read(key, version)


def objects(*keys: str) -> list[Object]:
    return [Object(key, 1, "1") for key in keys]


def take(source: Path, store: FolderStorage, max_rejected: float = 0.1) -> Snapshot:
    return take_snapshot(
        FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=max_rejected)
    ).snapshot


def learned_from(store: FolderStorage, snapshot: str) -> list[Pair]:
    """The pairs that training sees."""
    return [row for row in read_pairs(store, snapshot) if row.split in ("train", "validation")]


def stored(store: FolderStorage) -> dict[str, bytes]:
    """Everything in the store."""
    return {found.key: store.read(found.key) for found in store.list()}


class Restless(FolderStorage):
    """A folder in which something happens before a key is read."""

    def __init__(self, root: Path, key: str, event: Callable[[Path], object], times: int = 1):
        super().__init__(root)
        self.key, self.event, self.times = key, event, times

    def read(self, key: str, version: str = "") -> bytes:
        if key == self.key and self.times:
            self.times -= 1
            self.event(self.root / key)
        return super().read(key, version)
