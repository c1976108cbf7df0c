"""PASCAL VOC with segmentation, and what CVAT and Datumaro call segmentation mask.

JPEGImages/a.jpg
SegmentationClass/a.png              a palette or grey with numbers of classes, or colours; 255 does not count
ImageSets/Segmentation/train.txt     names of pictures; val.txt, test.txt, or default.txt
labelmap.txt                         label:color_rgb:parts:actions; or class_names.txt, a name a line
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.classes import GOOD, IGNORE, MOST_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.common.images.opening import open_picture
from defectline.components.common.storage import Object
from defectline.components.ingest.labels.class_file import parse_class_file
from defectline.components.ingest.readers.base import (
    CLASSES_KEY,
    Layout,
    Listing,
    Marked,
    Painted,
    Record,
    Sidecar,
    unusable,
)

NAME = "voc"
EXPECTED = (
    "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (PASCAL VOC, segmentation mask of CVAT)"
)
MASKS = ("SegmentationClass", "SegmentationClassPNG")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Name of a list → split. `trainval` and `default` give none."""
GOOD_NAMES = {"", "background", "_background_", "__background__", "good", "ok"}
IGNORED_NAMES = {"void", "ignore", "ignored", "__ignore__", "_ignore_"}
IGNORED = "ignore"
LABEL_MAP, CLASS_NAMES = "labelmap.txt", "class_names.txt"
MASK_FOLDER = re.compile(rf"(?P<root>(?:.+/)?)(?:{'|'.join(MASKS)})/.")
SHOWN = 5
"""Values and labels that an error names."""


def colours(count: int) -> list[tuple[int, int, int]]:
    """The colours of PASCAL VOC: those of labels without a colour of their own.

    >>> colours(3), colours(256)[255]
    ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], (224, 224, 192))
    """
    found = []
    for number in range(count):
        bits = [
            sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)
        ]
        found.append((bits[0], bits[1], bits[2]))
    return found


class Label(NamedTuple):
    name: str
    colour: tuple[int, int, int]

    @property
    def kind(self) -> str:
        return kind_of(self.name)


def kind_of(name: str) -> str:
    """The class that a label of this name is, "" for what is good, or IGNORED."""
    plain = name.strip().casefold()
    return "" if plain in GOOD_NAMES else IGNORED if plain in IGNORED_NAMES else name.strip()


def fits(listing: Listing) -> str:
    if roots := _roots(listing):
        return f"{roots[0]}{MASKS[0]}/ is that of PASCAL VOC"
    boxes = _boxes(listing)
    return f"{boxes} is that of PASCAL VOC" if boxes else ""


def read(listing: Listing) -> Layout:
    """Pictures that have a mask, and those that a list names and that have none, which are good.

    Raises SourceError for several sets, for one with boxes alone and for a label map that cannot be read.
    """
    roots = _roots(listing)
    if len(roots) != 1:
        raise _no_set(listing, roots)
    root = roots[0]
    labels = _read_labels(listing, root)
    version = hashlib.sha256(repr(labels).encode()).hexdigest()[:16]
    masks, pictures, ignored = _sort(listing, root)
    listed = _read_lists(listing, root)
    splits = listed or {}
    records, rejected = [], []
    for name in sorted(masks.keys() | splits.keys() | pictures.keys()):
        mask, found = masks.get(name), pictures.get(name, [])
        if len(found) > 1:
            reason = f"Several pictures of that name: {', '.join(item.key for item in found)}."
            rejected.append(unusable(name, reason, "Keep one.", image=found[0].key))
        elif not found:
            reason, fix = "No picture of that name.", f"Add {root}JPEGImages/{name}.jpg."
            rejected.append(unusable(name, reason, fix, mask=mask.key if mask else ""))
        elif mask:
            sidecar = Sidecar(mask, partial(parse_mask, mask.key, labels), version)
            records.append(Record(name, "", found[0], sidecar, split=splits.get(name, "")))
        elif name in splits:
            records.append(Record(name, "OK", found[0], split=splits[name]))
        elif listed is not None:
            ignored["pictures without a mask that no list names"] += 1
        else:
            reason, fix = "No mask of that name.", f"Add {root}{MASKS[0]}/{name}.png, or remove the picture."
            rejected.append(unusable(name, reason, fix, image=found[0].key))
    return Layout(records, rejected, +ignored)


def parse_mask(key: str, labels: Sequence[Label], data: bytes) -> Marked:
    """What a mask file says: by its colours where all of them are known, else by its numbers. Pure.

    Raises SourceError for a file that is not a mask, and for colours and numbers without a label.
    """
    picture = open_picture(data).picture
    unnamed = not labels
    labels = labels or [Label(str(number or ""), colour) for number, colour in _numbered(MOST_CLASSES + 1)]
    known = {_code(colours(256)[IGNORE]): IGNORED, 0: ""}
    known |= {_code(label.colour): label.kind for label in reversed(labels)}
    if len(picture.getbands()) > 1:
        codes = _codes(np.asarray(picture.convert("RGB")))
        if unknown := np.setdiff1d(codes, list(known)).tolist():
            raise _unknown(key, f"the colours {_listed(unknown, _colour)}", labels)
        return paint(key, codes, known, unnamed)
    numbers = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    used = np.unique(numbers).tolist()
    if picture.mode in ("1", "L", "P") and all(_code(_shown(picture, value)) in known for value in used):
        shown = {value: known[_code(_shown(picture, value))] for value in used}
        return paint(key, numbers, shown, unnamed)
    named = {0: "", **{number: label.kind for number, label in enumerate(labels)}, IGNORE: IGNORED}
    if unknown := [value for value in used if value not in named]:
        raise _unknown(key, f"the numbers {_listed(unknown, str)}", labels)
    return paint(key, numbers, named, unnamed)


def paint(key: str, codes: NDArray[np.generic], meaning: Mapping[int, str], unnamed: bool = False) -> Marked:
    """The mask in which each of `codes` (H, W) has a meaning: a class, "" for good, or IGNORED.

    Where the classes are `unnamed`, they are numbers, which stay what they are.
    """
    known = np.array(sorted(meaning))
    places = np.searchsorted(known, codes)
    there = {meaning[int(known[place])] for place in np.unique(places)}
    names = sorted(there - {"", IGNORED})
    if len(names) > MOST_CLASSES:
        raise SourceError(
            f"The mask holds {len(names)} classes.",
            got=", ".join(names),
            expected=f"at most {MOST_CLASSES}",
            fix="Give kinds of defects the same label that are judged alike.",
        )
    numbers = {"": GOOD, IGNORED: IGNORE}
    numbers |= {name: int(name) if unnamed else number for number, name in enumerate(names, start=1)}
    table = np.array([numbers.get(meaning[int(code)], GOOD) for code in known], np.uint8)
    values = table[places]
    # A list even where it is empty: it says that 255 does not count. Beside numbers it does not count anyway.
    legend = "" if unnamed and names else json.dumps(names, ensure_ascii=False)
    digest = hashlib.sha256(f"{values.shape} {legend} ".encode() + values.tobytes()).hexdigest()
    return Marked("", Painted(key, digest[:32], values), legend)


def _shown(picture: Image.Image, value: int) -> tuple[int, int, int]:
    """The colour of a pixel of this value."""
    palette = picture.getpalette("RGB") if picture.mode == "P" else None
    if palette is None:
        return value, value, value
    red, green, blue = palette[3 * value : 3 * value + 3] or (-1, -1, -1)
    return red, green, blue


def _code(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _colour(code: int) -> str:
    return f"({code >> 16},{code >> 8 & 255},{code & 255})"


def _listed(values: Sequence[int], show: Callable[[int], str]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(show(value) for value in values[:SHOWN]) + more


def _unknown(key: str, got: str, labels: Sequence[Label]) -> SourceError:
    return SourceError(
        f"The mask holds {got}, which no label has.",
        got=f"{got} in {key}",
        expected=", ".join(f"{label.name} {_colour(_code(label.colour))}" for label in labels[:SHOWN]) + " …",
        fix=f"Add them to {LABEL_MAP}, or export the masks again as PNG, without smoothing.",
    )


def _roots(listing: Listing) -> list[str]:
    """The folders that hold a set, each with a slash at its end, or "" for the source itself."""
    found = {match["root"] for item in listing.objects if (match := MASK_FOLDER.match(item.key))}
    return sorted(found)


def _boxes(listing: Listing) -> str:
    """A file of boxes, where a set holds nothing else."""
    if not any("JPEGImages/" in item.key for item in listing.objects):
        return ""
    boxes = (item.key for item in listing.objects if re.fullmatch(r"(.*/)?Annotations/.*\.xml", item.key))
    return next(boxes, "")


def _no_set(listing: Listing, roots: Sequence[str]) -> SourceError:
    if roots:
        return SourceError(
            "The source holds several sets.",
            got=", ".join(root.rstrip("/") or "the source itself" for root in roots),
            expected="one",
            fix=f"Name the folder of one: --source {listing.source.url(roots[-1].rstrip('/'))}",
        )
    if not _boxes(listing):
        return SourceError(
            "The source is not a set of Pascal VOC.",
            got=f"{len(listing.objects)} files, none below {MASKS[0]}/",
            expected=f"JPEGImages/ and {MASKS[0]}/",
            fix="Correct layout, or leave it out: then the source is looked at.",
        )
    return SourceError(
        "The set has boxes, but no masks.",
        got=_boxes(listing) or f"{len(listing.objects)} files",
        expected=f"{MASKS[0]}/ with a mask a picture: where the defects are, pixel by pixel",
        fix="Outline the defects, and export them as segmentation masks.",
    )


def _read_labels(listing: Listing, root: str) -> list[Label]:
    """The labels by their numbers; none where nothing names them.

    Raises SourceError where none of them is the background.
    """
    for name, parse in (LABEL_MAP, parse_label_map), (CLASS_NAMES, parse_class_names):
        if root + name in listing.by_key:
            labels = parse(listing.read(root + name).decode("utf-8-sig", errors="replace"))
            clash = [label.name for label in labels if label.kind and not _code(label.colour)]
            if clash and not any(label.kind == "" for label in labels):
                raise SourceError(
                    f"{root}{name} does not say what the background is.",
                    got=f"{clash[0]} in black, and no label that is called background",
                    expected="a line for the background: background:0,0,0::",
                    fix="Add it as the first line, or rename the label.",
                )
            return labels
    return _read_classes(listing)


def _read_classes(listing: Listing) -> list[Label]:
    """The labels that classes.csv at the source's root gives to numbers."""
    data = listing.read_for_all(CLASSES_KEY)
    names = json.loads((data is not None and parse_class_file(data)) or "[]")
    if not names or isinstance(names, str):
        return []
    named = zip(["", *names], _numbered(len(names) + 1), strict=True)
    return [Label(name, colour) for name, (_, colour) in named]


def parse_label_map(text: str) -> list[Label]:
    """The labels of a labelmap.txt. Raises SourceError where a colour is none."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    labels = []
    for line, (_, own) in zip(lines, _numbered(len(lines)), strict=True):
        name, *fields = line.rsplit(":", 3)
        numbers = [part.strip() for part in fields[0].split(",")] if fields and fields[0].strip() else []
        if numbers and (len(numbers) != 3 or not all(n.isdecimal() and int(n) < 256 for n in numbers)):
            raise SourceError(
                f"{LABEL_MAP} cannot be read.",
                got=line,
                expected="lines such as scratch:128,0,0::",
                fix="Export the masks again, or correct the line.",
            )
        labels.append(Label(name, (int(numbers[0]), int(numbers[1]), int(numbers[2])) if numbers else own))
    return labels


def parse_class_names(text: str) -> list[Label]:
    """The labels of the class_names.txt that labelme writes."""
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if names[:1] == ["__ignore__"]:
        del names[0]
    return [Label(name, colour) for name, (_, colour) in zip(names, _numbered(len(names)), strict=True)]


def _numbered(count: int) -> list[tuple[int, tuple[int, int, int]]]:
    return list(enumerate(colours(count)))


def _sort(listing: Listing, root: str) -> tuple[dict[str, Object], dict[str, list[Object]], Counter[str]]:
    """Masks and pictures by name, and what else there is."""
    masks: dict[str, Object] = {}
    pictures: dict[str, list[Object]] = defaultdict(list)
    elsewhere: list[Object] = []
    ignored: Counter[str] = Counter()
    for item in listing.objects:
        inside = item.key.removeprefix(root)
        folder, _, rest = inside.partition("/")
        name = unicodedata.normalize("NFC", PurePosixPath(rest or inside).with_suffix("").as_posix())
        if not item.key.startswith(root) or folder in ("ImageSets", LABEL_MAP, CLASS_NAMES):
            ignored["files outside of the set"] += not item.key.startswith(root)
        elif folder in MASKS and PurePosixPath(inside).suffix.lower() in PICTURES:
            masks[name] = item
        elif folder == "Annotations" or folder.startswith("Segmentation"):
            ignored[f"files in {folder}/"] += 1
        elif PurePosixPath(inside).suffix.lower() not in PICTURES:
            ignored["other files"] += 1
        elif folder == "JPEGImages":
            pictures[name].append(item)
        else:
            elsewhere.append(item)
    if pictures:
        ignored["pictures outside of JPEGImages/"] += len(elsewhere)
    else:
        # Exported without pictures, which lie in another folder then.
        by_tail = {PurePosixPath(name).name: name for name in masks}
        for item in elsewhere:
            path = PurePosixPath(unicodedata.normalize("NFC", item.key.removeprefix(root))).with_suffix("")
            name = by_tail.get(path.name, path.as_posix())
            pictures[name if f"/{path}".endswith(f"/{name}") else path.as_posix()].append(item)
    return masks, pictures, ignored


def _read_lists(listing: Listing, root: str) -> dict[str, str] | None:
    """The pictures that ImageSets/Segmentation names, and their splits; None without such lists."""
    folder = f"{root}ImageSets/Segmentation/"
    lists = [
        item.key for item in listing.objects if item.key.startswith(folder) and item.key.endswith(".txt")
    ]
    listed: dict[str, str] = {}
    for key in lists:
        split = SPLITS.get(PurePosixPath(key).stem.lower(), "")
        for line in listing.read(key).decode("utf-8-sig", errors="replace").splitlines():
            name = unicodedata.normalize("NFC", line.strip().strip('"'))
            if not name:
                continue
            other = listed.setdefault(name, split)
            if other and split and other != split:
                raise SourceError(
                    "The set names a picture in two splits.",
                    got=f"{name} in {other} and {split}",
                    expected="one split a picture",
                    fix=f"Remove it from one of the lists in {folder}.",
                )
            listed[name] = other or split
    return listed if lists else None
