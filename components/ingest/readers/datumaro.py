"""Datumaro's own format, which CVAT exports as well.

annotations/default.json, or one a subset: train.json, val.json, test.json
images/default/a.jpg
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.ingest.json_stream import read_members
from defectline.components.ingest.readers.base import Layout, Listing, Marked
from defectline.components.ingest.readers.locate import Gathering, is_picture
from defectline.components.ingest.readers.shapes import (
    Rule,
    Shape,
    fill,
    line,
    mark,
    pack_line,
    pack_rings,
    pack_rle,
    read_split,
    runs,
)

NAME = "datumaro"
EXPECTED = "annotations/*.json of Datumaro (items and categories), and images/"
CATEGORIES = re.compile(rb'"categories"\s*:\s*\{\s*"label"\s*:\s*\{')
FOLDER = "annotations"
WORDS = ("caption", "hash_key", "feature_vector")
"""Annotations that say nothing of pixels."""
CORNERS = 720
"""Of an ellipse, as Datumaro draws it."""


class Region(NamedTuple):
    """One annotation."""

    label: int | None
    rule: Rule | None
    """None where it is of the whole picture."""
    data: bytes


class Item(NamedTuple):
    id: str
    path: str
    size: tuple[int, int] | None
    regions: tuple[Region, ...]
    wrong: str
    """Why its annotations cannot be used; "" where they can."""


def fits(listing: Listing) -> str:
    files = _files(listing)
    return f"{files[0]} is Datumaro's" if files else ""


def read(listing: Listing) -> Layout:
    """The pictures of all subsets, whose names say the split. One without annotations is good."""
    gathering = Gathering(listing)
    for key in _files(listing):
        _read_file(listing, key, gathering)
    return gathering.layout()


def _files(listing: Listing) -> list[str]:
    return [
        item.key
        for item in listing.objects
        if item.key.endswith(".json")
        and PurePosixPath(item.key).parent.name == FOLDER
        and CATEGORIES.search(listing.head(item.key))
    ]


def _read_file(listing: Listing, key: str, gathering: Gathering) -> None:
    names: list[str] = []
    items: list[Item] = []
    boxes: Counter[str] = Counter()
    for member, value in read_members(listing, key, ("items",)):
        if member == "categories":
            labels = value.get("label", {}).get("labels", []) if isinstance(value, dict) else []
            names = [str(label.get("name")) for label in labels]
        elif member == "items":
            items.append(_item(value, boxes))
    if boxes["box"]:
        gathering.notes.append(f"{key}: {boxes['box']} boxes without an outline are filled")
    subset = PurePosixPath(key).stem
    by_stem = _by_stem(listing) if not all(item.path for item in items) else {}
    for item in items:
        path = item.path or by_stem.get(PurePosixPath(item.id).name, item.id)
        gathering.add(path, key, partial(_mark, key, item, names), read_split(subset), subset)


def _item(value: Mapping[str, Any], boxes: Counter[str]) -> Item:
    media = value.get("image") or value.get("media") or {}
    size = media.get("size")
    known = (size[0], size[1]) if isinstance(size, list) and len(size) == 2 and all(size) else None
    regions: list[Region] = []
    annotations = value.get("annotations") or []
    # Boxes that Datumaro keeps beside the outlines of the same thing.
    outlined = {each.get("group") for each in annotations if each.get("type") in ("polygon", "mask")} - {
        0,
        None,
    }
    wrong = ""
    for each in sorted(annotations, key=lambda each: each.get("z_order") or 0):
        kind = each.get("type")
        if kind in WORDS or (kind == "bbox" and each.get("group") in outlined):
            continue
        boxes["box"] += kind == "bbox"
        try:
            regions.append(Region(each.get("label_id"), *_shape(kind, each)))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            wrong = f"{kind}, {named}{error}"
    return Item(
        str(value.get("id")),
        str(media.get("path") or ""),
        known,
        tuple(regions),
        wrong,
    )


def _shape(kind: str, each: Mapping[str, Any]) -> tuple[Rule | None, bytes]:
    """How an annotation is drawn. Raises ValueError, or what malformed values raise, where it cannot be."""
    if kind == "label":
        return None, b""
    if kind == "mask":
        return runs, pack_rle(each["rle"]["size"], each["rle"]["counts"])
    if kind == "polyline":
        return line, pack_line(each["points"])
    if kind == "polygon":
        return fill, pack_rings([each["points"]])
    if kind == "bbox":
        # CVAT turns boxes about their centre, which Datumaro does not know.
        degrees = float((each.get("attributes") or {}).get("rotation") or 0)
        return fill, pack_rings([_corners(each["bbox"], degrees)])
    if kind == "ellipse":
        left, top, right, bottom = each["points"]
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        across = (left + right) / 2 + (right - left) / 2 * np.cos(angles)
        down = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angles)
        return fill, pack_rings([np.stack([across, down], 1).ravel().tolist()])
    raise ValueError("which marks no pixels")


def _corners(box: Sequence[float], degrees: float) -> list[float]:
    """The corners of a box of left, top, width and height, turned about its centre, as x, y, x, y, …"""
    left, top, width, height = box
    if not degrees:
        return [left, top, left + width, top, left + width, top + height, left, top + height]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.array([[cos, sin], [-sin, cos]])
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    centre = (left + width / 2, top + height / 2)
    return [float(part) for part in (corners @ turned + centre).ravel()]


def _mark(key: str, item: Item, names: Sequence[str]) -> Marked:
    if item.wrong:
        raise SourceError(
            f"One of its annotations cannot be used: {item.wrong}.",
            got=item.wrong,
            expected="polygons, masks, boxes, ellipses or polylines",
            fix="Draw it as a polygon or mask, and export it again.",
        )
    shapes, said = [], []
    for label, rule, data in item.regions:
        if label is not None and not (isinstance(label, int) and 0 <= label < len(names)):
            raise SourceError(
                f"One of its annotations has the label {label}, which is not among the categories.",
                got=f"label_id {label}",
                expected=f"0 to {len(names) - 1}",
                fix="Export the annotations again.",
            )
        name = DEFAULT_CLASSES[0] if label is None else names[label]
        if rule:
            shapes.append(Shape(name, rule, data))
        else:
            said.append(name)
    return mark(key, shapes, said, item.size)


def _by_stem(listing: Listing) -> dict[str, str]:
    """Names of pictures without and with their suffix, for items that have no path."""
    paths = (PurePosixPath(item.key) for item in listing.objects if is_picture(item.key))
    return {path.stem: path.name for path in paths}
