"""YOLO with outlines (Ultralytics' segmentation): a text file a picture, a line an outline.

data.yaml                 names: [scratch, dent], and where train, val and test lie; or classes.txt
images/train/a.jpg        or train/images/a.jpg
labels/train/a.txt        or train/labels/a.txt: number of the class, then x y x y …, as shares of the picture
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE, IGNORED_CLASS
from defectline.components.common.errors import SourceError
from defectline.components.common.storage import Object
from defectline.components.ingest.readers.base import Layout, Listing, Marked, Record, Sidecar

NAME = "yolo"
EXPECTED = "data.yaml with names, images/ and labels/ with outlines (YOLO segmentation)"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
TABLES = ("data.yaml", "dataset.yaml")
LISTS = ("classes.txt", "obj.names")
"""Files that hold a name a line, where there is no YAML file."""
NAMES = re.compile(rb"^names\s*:", re.MULTILINE)
SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
STRAY = 0.01
"""How far outside of its picture a point may lie, as a share of it: it is moved to the edge."""
PROBES = 3
"""Label files that are looked into before all pictures are read."""


class Names(NamedTuple):
    """What the file of names says."""

    key: str
    names: Mapping[int, str]
    parts: Mapping[str, Sequence[str]]
    """Split → folders or lists of its pictures, as they stand there."""
    masks: str = ""
    """The folder of masks, instead of `images`, where the labels are masks."""
    values: Mapping[int, int] = MappingProxyType({})
    """Value of a mask → number of a class, or IGNORE, where they differ."""

    @property
    def root(self) -> str:
        """The folder of the set, with a slash at its end, or "" for the source itself."""
        return self.key.removesuffix(PurePosixPath(self.key).name)


class Outlines(NamedTuple):
    """What a label file marks: a Drawing."""

    key: str
    version: str
    outlines: tuple[tuple[int, NDArray[np.float64]], ...]
    """Numbers of the record's legend, each with its points (N, 2) as shares of width and height."""

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        canvas = np.zeros((height, width), np.uint8)
        for number, points in self.outlines:
            # The rule of Ultralytics, whose tools put the points into the outermost pixels of a region.
            corners = np.rint(points * (width, height)).astype(np.int32)
            cv2.fillPoly(canvas, [np.minimum(corners, (width - 1, height - 1))], number)
        return canvas


def fits(listing: Listing) -> str:
    key = find_names(listing)
    if not key:
        return ""
    root = key.removesuffix(PurePosixPath(key).name)
    labels = _find_labels(listing)
    labelled = any(_label_key(item.key) in labels for item in list_pictures(listing, root))
    return f"{key} and its labels are YOLO" if labelled else ""


def read(listing: Listing) -> Layout:
    """A picture whose label file is empty or missing is good, as in the format.

    Raises SourceError for labels that are boxes alone, for a file of names that cannot be read, and where
    pictures have no label file and label files no picture.
    """
    key = find_names(listing)
    if not key:
        raise SourceError(
            "The source has no names of classes.",
            got=f"{len(listing.objects)} files",
            expected=EXPECTED,
            fix="Export the labels again with data.yaml or classes.txt.",
        )
    names = read_names(key, listing.read(key))
    pictures = list_pictures(listing, names.root)
    labels = _find_labels(listing)
    if not any(_label_key(item.key) in labels for item in pictures):
        raise SourceError(
            "No picture has a label file.",
            got=f"{len(pictures)} pictures in {names.root or 'the source'}",
            expected=EXPECTED,
            fix="Put labels/ beside images/, with the same folders below.",
        )
    _refuse_boxes(listing, [labels[at] for item in pictures if (at := _label_key(item.key)) in labels])
    splits = find_splits(listing, names, pictures)
    version = hashlib.sha256(repr(sorted(names.names.items())).encode()).hexdigest()[:16]
    records: list[Record] = []
    ignored: Counter[str] = Counter()
    missing = 0
    used = {key}
    for item in pictures:
        label = labels.get(_label_key(item.key))
        inside = item.key.removeprefix(names.root)
        if not label and item.key not in splits and "images" not in PurePosixPath(inside).parts[:-1]:
            continue
        used.add(item.key)
        missing += label is None
        mask = None
        if label:
            used.add(label.key)
            mask = Sidecar(label, partial(parse_labels, label.key, names.names), version)
        split = splits.get(item.key, "")
        records.append(Record(stem(names, item), "" if mask else "OK", item, mask, split=split))
    if missing:
        _refuse_left_over([item for item in labels.values() if item.key not in used], used)
    ignored["other files"] = sum(item.key not in used for item in listing.objects)
    notes = [f"{missing} pictures have no label file, which means good in this format"] if missing else []
    return Layout(records, [], +ignored, notes)


def read_names(key: str, data: bytes) -> Names:
    """The names of classes and the parts of the set. Pure. Raises SourceError for a file without names."""
    text = data.decode("utf-8-sig", errors="replace")
    if PurePosixPath(key).suffix not in (".yaml", ".yml"):
        lines = [line.strip() for line in text.splitlines()]
        return Names(key, dict(enumerate(line for line in lines if line)), {})
    try:
        table = yaml.safe_load(text)
        names = table["names"]
        named = {
            int(number): str(name)
            for number, name in (names.items() if isinstance(names, dict) else enumerate(names))
        }
        parts = {
            split: [str(value) for value in (table[part] if isinstance(table[part], list) else [table[part]])]
            for part, split in SPLITS.items()
            if table.get(part)
        }
        values = {
            int(value): IGNORE if number == "ignore_label" else int(number)
            for value, number in (table.get("label_mapping") or {}).items()
        }
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{key} cannot be read.",
            got=" ".join(str(error).split())[:200],
            expected="YAML with names: a list, or numbers and names",
            fix="Export the labels again, or correct the file.",
        ) from error
    return Names(key, named, parts, str(table.get("masks_dir") or "").strip("/"), values)


def parse_labels(key: str, names: Mapping[int, str], data: bytes) -> Marked:
    """What a label file says of its picture. Pure. Raises SourceError for boxes and for malformed lines."""
    outlines: list[tuple[str, NDArray[np.float64]]] = []
    for line, text in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        try:
            numbers = np.array([float(part) for part in text.split()])
        except ValueError:
            raise _malformed(key, line, text, "is not a list of numbers") from None
        if len(numbers) in (5, 6):
            raise _boxes(f"{key}, line {line}: {text[:60]}")
        if len(numbers) < 7 or not len(numbers) % 2:
            raise _malformed(key, line, text, "is not a class and pairs of coordinates")
        if (number := int(numbers[0])) != numbers[0] or number not in names:
            raise _malformed(key, line, text, f"has a class that has no name, {numbers[0]:g}")
        points = numbers[1:].reshape(-1, 2)
        if not np.all((points >= -STRAY) & (points <= 1 + STRAY)):
            raise _malformed(key, line, text, "has coordinates outside of the picture, which is 0 to 1")
        outlines.append((names[number], points.clip(0, 1)))
    if not outlines:
        return Marked("OK", None)
    legend = sorted({name for name, _ in outlines} - {IGNORED_CLASS})
    numbered = {name: number for number, name in enumerate(legend, start=1)} | {IGNORED_CLASS: 255}
    drawn = tuple((numbered[name], points) for name, points in outlines)
    digest = hashlib.sha256(repr(legend).encode() + data).hexdigest()[:32]
    return Marked("", Outlines(key, digest, drawn), json.dumps(legend, ensure_ascii=False))


def find_names(listing: Listing) -> str:
    """The file of names that lies highest; "" where there is none."""
    found = []
    for item in listing.objects:
        # Of a hundred thousand keys nearly all are told apart here.
        if not item.key.endswith((".yaml", ".yml", *LISTS)):
            continue
        path = PurePosixPath(item.key)
        if path.suffix in (".yaml", ".yml"):
            if len(path.parts) <= 3 and NAMES.search(listing.head(item.key)):
                found.append((len(path.parts), path.name not in TABLES, item.key))
        elif path.name in LISTS:
            found.append((len(path.parts), True, item.key))
    return min(found)[-1] if found else ""


def list_pictures(listing: Listing, root: str) -> list[Object]:
    return [
        item
        for item in listing.objects
        if item.key.startswith(root) and PurePosixPath(item.key).suffix.lower() in PICTURES
    ]


def stem(names: Names, item: Object) -> str:
    """What a picture is called: `train/images/a` and `images/train/a` are the same one in two layouts."""
    inside = PurePosixPath(item.key.removeprefix(names.root)).with_suffix("")
    return "/".join(part for part in inside.parts if part != "images")


def _label_key(key: str) -> str:
    """Where the labels of a picture are: in `labels` instead of the last `images`, or beside it."""
    parts = list(PurePosixPath(key).with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return "/".join(parts)


def find_splits(listing: Listing, names: Names, pictures: Sequence[Object]) -> dict[str, str]:
    """The split of each picture that the file of names or a folder's name puts somewhere."""
    found: dict[str, str] = {}
    by_key = {item.key for item in pictures}
    for item in pictures:
        parts = PurePosixPath(item.key.removeprefix(names.root)).parts[:-1]
        if split := next((SPLITS[part] for part in parts if part in SPLITS), ""):
            found[item.key] = split
    told: dict[str, str] = {}
    for split, places in names.parts.items():
        for place in places:
            for key in _members(listing, names, by_key, place):
                told.setdefault(key, split)
    return found | told


def _members(listing: Listing, names: Names, pictures: set[str], place: str) -> list[str]:
    """The pictures that a folder or list in the file of names means, which was written on another machine."""
    for tail in _tails(place):
        key = names.root + tail
        if key in listing.by_key and key.endswith(".txt"):
            lines = listing.read(key).decode("utf-8-sig", errors="replace").splitlines()
            meant = (
                next((names.root + t for t in _tails(line) if names.root + t in pictures), "")
                for line in lines
            )
            return [key for key in meant if key]
        if inside := [found for found in pictures if found.startswith(f"{key}/")]:
            return inside
    return []


def _tails(path: str) -> list[str]:
    """The path without its first parts, the longest first.

    >>> _tails("../train/images")
    ['train/images', 'images']
    """
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _find_labels(listing: Listing) -> dict[str, Object]:
    """The text files by what `_label_key` calls them: their endings may be in capitals."""
    paths = ((PurePosixPath(item.key), item) for item in listing.objects)
    return {str(path.with_suffix(".txt")): item for path, item in paths if path.suffix.lower() == ".txt"}


def _refuse_left_over(labels: Sequence[Object], used: Collection[str]) -> None:
    """Raise SourceError for label files of no picture: those of pictures that would be good without them."""
    folders = {str(PurePosixPath(key).parent) for key in used if key.lower().endswith(".txt")}
    left = [
        item.key
        for item in labels
        if item.size
        and (path := PurePosixPath(item.key)).name not in LISTS
        and ("labels" in path.parts or str(path.parent) in folders - {"."})
    ]
    if left:
        raise SourceError(
            "Label files belong to no image, and images without a label file would count as good.",
            got=f"{len(left)} such files: {', '.join(left[:3])}{', …' if len(left) > 3 else ''}",
            expected="labels/ with the folders and names of images/",
            fix="Rename them as their images are called, or take them out of the source.",
        )


def _refuse_boxes(listing: Listing, found: Sequence[Object]) -> None:
    """Raise SourceError where the first labels are boxes alone, before all pictures are read."""
    labels = [item for item in found if item.size]
    lines = [
        line
        for item in labels[:PROBES]
        for line in listing.head(item.key).decode(errors="replace").splitlines()
    ]
    lines = [line for line in lines if line.strip()]
    if lines and all(len(line.split()) in (5, 6) for line in lines):
        raise _boxes(f"{labels[0].key}: {lines[0][:60]}")


def _boxes(got: str) -> SourceError:
    return SourceError(
        "The labels are boxes, which say where a defect is, but not which pixels.",
        got=got,
        expected="outlines: a class and at least three points a line",
        fix="Export as YOLO segmentation, or outline the defects in the annotation tool.",
    )


def _malformed(key: str, line: int, text: str, wrong: str) -> SourceError:
    return SourceError(
        f"{key}, line {line} {wrong}.",
        got=text[:60],
        expected="the number of a class and at least three points, as shares of width and height",
        fix="Export the labels again.",
    )
