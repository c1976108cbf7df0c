"""The pictures of `parts` in every format: written here, or by the tool itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from labelled import unpack, write_files
from numpy.typing import NDArray
from parts import CLASSES, PARTS, Part, pixels
from pictures import encode

Files = dict[str, bytes | str]
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def picture(part: Part) -> bytes:
    return encode(pixels(list(PARTS).index(part.name)))


def numbers(part: Part) -> NDArray[np.uint8]:
    """The mask of a part with the numbers of CLASSES, from 1."""
    values = np.zeros(pixels(0).shape[:2], np.uint8)
    for name, truth in part.truth.items():
        values[truth] = CLASSES.index(name) + 1
    return values


def white(part: Part) -> bytes:
    return encode((numbers(part) > 0).astype(np.uint8) * np.uint8(255))


def kind(part: Part) -> str:
    """The class of the whole picture."""
    return next(iter(part.truth)) if len(part.truth) == 1 else "combined" if part.truth else "good"


def csv() -> Files:
    rows = ["image,label,mask,class,split"]
    files: Files = {}
    for part in PARTS.values():
        files[f"pictures/{part.name}.png"] = picture(part)
        mask = f"masks/{part.name}.png" if part.boxes else ""
        if mask:
            files[mask] = encode(numbers(part))
        label = "NG" if part.boxes else "OK"
        rows.append(f"pictures/{part.name}.png,{label},{mask},{';'.join(CLASSES)},{part.split}")
    return {**files, "labels.csv": "\n".join(rows)}


def mvtec() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "train" if number < 3 else "test"
        files[f"{folder}/{kind(part)}/{number:03}.png"] = picture(part)
        if part.boxes:
            files[f"ground_truth/{kind(part)}/{number:03}_mask.png"] = white(part)
    return files


def visa() -> Files:
    rows = ["image,label,mask"]
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "Anomaly" if part.boxes else "Normal"
        files[key := f"Data/Images/{folder}/{number:03}.png"] = picture(part)
        mask = ""
        if part.boxes:
            files[mask := f"Data/Masks/Anomaly/{number:03}.png"] = encode(numbers(part))
        label = ",".join(part.truth) or "normal"
        rows.append(f'candle/{key},"{label}",{mask and f"candle/{mask}"}')
    return {**files, "image_anno.csv": "\n".join(rows)}


def kolektor() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        files[f"kos{number:02}/Part0.png"] = picture(part)
        files[f"kos{number:02}/Part0_label.bmp"] = encode(numbers(part), "BMP")
    return files


def kolektor_2() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "test" if part.split == "test" else "train"
        files[f"{folder}/{10000 + number}.png"] = picture(part)
        files[f"{folder}/{10000 + number}_GT.png"] = white(part)
    return files


def _writer(files: Callable[[], Files]) -> Callable[[Path], Path]:
    return lambda root: write_files(root, files())


def _unpacker(name: str) -> Callable[[Path], Path]:
    return lambda root: unpack(name, root)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "csv": ("csv", _writer(csv)),
    "mvtec": ("mvtec", _writer(mvtec)),
    "visa": ("visa", _writer(visa)),
    "kolektor": ("kolektor", _writer(kolektor)),
    "kolektor 2": ("kolektor", _writer(kolektor_2)),
    "voc": ("voc", _unpacker("voc")),
    "voc numbers": ("voc", _unpacker("voc_numbers")),
    "yolo": ("yolo", _unpacker("yolo")),
    "datumaro": ("datumaro", _unpacker("datumaro")),
}
"""Example → what `layout=` calls its format, and what writes it into a folder."""


def part_of(stem: str) -> Part:
    """The part that a record shows."""
    name = stem.rpartition("/")[2]
    if name in PARTS:
        return PARTS[name]
    digits = stem.removeprefix("kos").partition("/")[0] if stem.startswith("kos") else name
    return list(PARTS.values())[int(digits) % 100]


def expected(format: str, part: Part) -> dict[str, NDArray[np.bool_]]:
    """Where each class is, as the format can say it."""
    marked = numbers(part) > 0
    if not part.boxes or format not in ("mvtec", "visa", "kolektor"):
        return part.truth
    return {"defect" if format == "kolektor" else kind(part): marked}
