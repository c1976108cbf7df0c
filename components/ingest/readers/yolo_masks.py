"""YOLO with masks (Ultralytics' semantic segmentation): for each picture one of the numbers of classes.

data.yaml              names: {0: background, 1: scratch}, masks_dir: masks, and where train, val and test lie
images/train/a.jpg     or train/images/a.jpg
masks/train/a.png      the numbers that `names` has, or those of label_mapping; 255 does not count
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from defectline.components.common.classes import GOOD, IGNORE
from defectline.components.common.errors import SourceError
from defectline.components.common.images.opening import open_picture
from defectline.components.ingest.readers.base import Layout, Listing, Marked, Record, Sidecar, unusable
from defectline.components.ingest.readers.voc import IGNORED, kind_of, paint
from defectline.components.ingest.readers.yolo import (
    Names,
    find_names,
    find_splits,
    list_pictures,
    read_names,
    stem,
)

NAME = "yolo_masks"
EXPECTED = "data.yaml with names and masks_dir, images/ and masks/ (YOLO semantic segmentation)"
MASKS = re.compile(rb"^masks_dir\s*:", re.MULTILINE)


def fits(listing: Listing) -> str:
    key = find_names(listing)
    return f"{key} names the masks of YOLO" if key and MASKS.search(listing.head(key)) else ""


def read(listing: Listing) -> Layout:
    """Whether a picture is good its mask says. Raises SourceError for a file of names that cannot be used."""
    key = find_names(listing)
    names = read_names(key, listing.read(key)) if key else Names("", {}, {})
    if not names.masks:
        raise SourceError(
            "No file of names says where the masks are.",
            got=f"{key} without masks_dir" if key else f"{len(listing.objects)} files",
            expected=EXPECTED,
            fix="Add the line masks_dir: masks, or use layout=yolo for outlines.",
        )
    meaning = _meaning(names)
    version = hashlib.sha256(repr(sorted(meaning.items())).encode()).hexdigest()[:16]
    found = list_pictures(listing, names.root)
    pictures = [item for item in found if mask_name(names, item.key)]
    within = f"/{names.masks}/"
    # PNG last: of two masks of one name Ultralytics takes that.
    masks = {
        _bare(item.key): item
        for item in sorted(found, key=lambda item: item.key.lower().endswith(".png"))
        if within in f"/{item.key.removeprefix(names.root)}"
    }
    splits = find_splits(listing, names, pictures)
    records, rejected = [], []
    for item in pictures:
        place, name = mask_name(names, item.key), stem(names, item)
        if mask := masks.pop(place, None):
            sidecar = Sidecar(mask, partial(parse_mask, mask.key, meaning), version)
            records.append(Record(name, "", item, sidecar, split=splits.get(item.key, "")))
        else:
            good = next(value for value, kind in meaning.items() if not kind)
            fix = f"Add {place}.png, all {good} if it is good, or remove the picture."
            rejected.append(unusable(name, "No mask of that name.", fix, image=item.key))
    for place, mask in masks.items():
        fix = "Add the picture, or remove the mask."
        rejected.append(unusable(place, "No picture of that name.", fix, mask=mask.key))
    others = len(listing.objects) - 1 - 2 * len(records) - len(rejected)
    return Layout(records, rejected, +Counter({"other files": others}))


def mask_name(names: Names, key: str) -> str:
    """Where the mask of a picture is, without its suffix; "" for what is not a picture of the set."""
    parts = _bare(key.removeprefix(names.root)).split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return ""
    parts[places[-1]] = names.masks
    return names.root + "/".join(parts)


def _meaning(names: Names) -> dict[int, str]:
    """Value of a mask → class, "" for what is good, or IGNORED. Raises SourceError where nothing is good."""
    kinds = {number: kind_of(name) for number, name in names.names.items()} | {IGNORE: IGNORED}
    values = names.values or {number: number for number in names.names}
    meaning = {value: kinds.get(number, IGNORED) for value, number in values.items()} | {IGNORE: IGNORED}
    if "" not in meaning.values():
        raise SourceError(
            f"{names.key} does not say which number is good.",
            got=", ".join(f"{number}: {name}" for number, name in sorted(names.names.items())[:5]),
            expected="one that is called background, good or OK",
            fix="Call it so; every pixel of a mask holds the number of a class, also where nothing is.",
        )
    return meaning


def _bare(key: str) -> str:
    """The key without its suffix."""
    return str(PurePosixPath(key).with_suffix(""))


def parse_mask(key: str, meaning: Mapping[int, str], data: bytes) -> Marked:
    """What a mask file says. Pure. Raises SourceError for colours, and for numbers that have no name."""
    opened = open_picture(data)
    values = np.asarray(opened.picture.convert("L") if opened.picture.mode == "1" else opened.picture)
    if values.ndim == 3 and np.all(values == values[..., :1]):
        values = values[..., 0]
    used = np.unique(values).tolist()
    got, unknown = "", [value for value in used if value not in meaning]
    if values.ndim == 3:
        got = "several colours"
    elif opened.lossy:
        got = "a file that is compressed with losses"
    elif used == [GOOD, IGNORE]:
        got = f"{GOOD} and {IGNORE} alone, of which {IGNORE} does not count"
    elif unknown:
        got = f"the numbers {', '.join(map(str, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}"
    if got:
        raise SourceError(
            f"{key} is not a mask with numbers of the named classes.",
            got=got,
            expected=", ".join(f"{value}: {kind or 'good'}" for value, kind in sorted(meaning.items())[:6]),
            fix="Export the number of its class in each pixel, as grey PNG.",
        )
    return paint(key, values, meaning)
