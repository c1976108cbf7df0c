"""COCO: one JSON, or one a split, with outlines of many pictures."""

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from defectline.components.common.errors import SourceError
from defectline.components.ingest.json_stream import read_members
from defectline.components.ingest.readers.base import Layout, Listing, Marked
from defectline.components.ingest.readers.locate import Gathering
from defectline.components.ingest.readers.shapes import (
    Rule,
    Shape,
    fill,
    mark,
    pack_rings,
    pack_rle,
    read_split,
    runs,
)

NAME = "coco"
EXPECTED = "a COCO file (.json with images, annotations and categories), and the pictures"

LOOKED_AT, MOST_FILES = 20, 200
"""JSON files that are looked into to know the format, and to read it."""
LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
FIRST = re.compile(rb'"annotations"\s*:\s*\[\s*\{[^{}\[\]]*"(image_id|category_id)"')
OTHER_TASKS = re.compile(r"(person_keypoints|captions|panoptic|stuff|labels|image_info)_", re.IGNORECASE)
DATUMAROS = [{"name": "", "id": 0, "url": ""}]
"""The licenses in files that Datumaro or CVAT wrote."""
CROWD = "crowd"
LISTED = ("images", "annotations", "categories")


class Image(NamedTuple):
    name: str
    height: Any
    width: Any


class Region(NamedTuple):
    """One annotation, as small as it gets."""

    category: str
    crowd: bool
    rule: Rule | None
    """None where nothing is drawn."""
    data: bytes


class Fault(NamedTuple):
    """Why an annotation cannot be used."""

    reason: str


def fits(listing: Listing) -> str:
    # Where there are thousands, each is of one picture, and of another format.
    found = _files(listing, LOOKED_AT)
    return f"{found[0]} is COCO" if found else ""


def read(listing: Listing) -> Layout:
    gathering = Gathering(listing)
    files = _files(listing)
    outlines = [key for key in files if not OTHER_TASKS.match(PurePosixPath(key).name)]
    if others := len(files) - len(outlines) if outlines else 0:
        gathering.ignored["COCO files of keypoints, captions or other tasks"] += others
    for key in outlines or files:
        _read_file(listing, key, gathering)
    return gathering.layout()


def _files(listing: Listing, most: int = MOST_FILES) -> list[str]:
    """The keys of the COCO files."""
    named = [item for item in listing.objects if item.key.lower().endswith(".json")]
    # Those of many pictures are large, and lie above the pictures.
    named.sort(key=lambda item: (item.key.count("/"), -item.size, item.key))
    return sorted(item.key for item in named[:most] if _is_coco(listing.head(item.key)))


def _is_coco(head: bytes) -> bool:
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith(b"{"):
        return False
    lists = {match[1] for match in LISTS.finditer(head)}
    return len(lists) > 1 or bool(FIRST.search(head)) or (lists == {b"images"} and b'"file_name"' in head)


def _read_file(listing: Listing, key: str, gathering: Gathering) -> None:
    images: dict[str, Image] = {}
    regions: dict[str, list[Region | Fault]] = defaultdict(list)
    categories: dict[str, str] = {}
    datumaro = False
    kinds: Counter[str] = Counter()
    for member, value in read_members(listing, key, LISTED):
        if member == "images":
            image = Image(str(value.get("file_name") or ""), value.get("height"), value.get("width"))
            if images.setdefault(str(value.get("id")), image) is not image:
                raise _unusable(key, f"two images with the id {value.get('id')}")
        elif member == "annotations":
            region = _region(value)
            regions[str(value.get("image_id"))].append(region)
            kinds[_kind(value)] += 1
            kinds["crowd"] += isinstance(region, Region) and region.crowd
        elif member == "categories":
            categories[str(value.get("id"))] = str(value.get("name"))
        elif member == "licenses":
            datumaro = value == DATUMAROS
    if kinds["box"]:
        gathering.notes.append(f"{key}: {kinds['box']} boxes without an outline are filled")
    if kinds["crowd"]:
        how = "count, as Datumaro and CVAT write every mask so" if datumaro else "do not count"
        gathering.notes.append(f"{key}: {kinds['crowd']} annotations with iscrowd {how}")
    split = read_split(PurePosixPath(key).stem) or read_split(PurePosixPath(key).parent.name)
    for number, image in images.items():
        of = regions.pop(number, [])
        gathering.add(image.name, key, partial(_mark, key, image, of, categories, datumaro), split)
    if regions:
        lost = sum(map(len, regions.values()))
        gathering.notes.append(f"{key}: {lost} annotations are of pictures that it does not list")


def _mark(
    key: str, image: Image, regions: list[Region | Fault], categories: dict[str, str], datumaro: bool
) -> Marked:
    shapes, said = [], []
    for region in regions:
        if isinstance(region, Fault) or region.category not in categories:
            reason = (
                region.reason
                if isinstance(region, Fault)
                else f"category {region.category} is not among the categories"
            )
            raise SourceError(
                f"One of its annotations cannot be used: {reason}.",
                got=reason,
                expected="polygons or run lengths of a category in the file",
                fix="Export the annotations again, or remove that one.",
            )
        name = categories[region.category]
        if region.rule is None:
            said.append(name)
        else:
            ignored = region.crowd and not datumaro
            shapes.append(Shape(CROWD if ignored else name, region.rule, region.data))
    known = isinstance(image.height, int) and isinstance(image.width, int) and image.height and image.width
    return mark(key, shapes, said, (image.height, image.width) if known else None)


def _kind(annotation: dict[str, Any]) -> str:
    return "box" if not annotation.get("segmentation") and _has_area(annotation.get("bbox")) else "outline"


def _has_area(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and box[2] > 0 and box[3] > 0


def _region(annotation: dict[str, Any]) -> Region | Fault:
    category = str(annotation.get("category_id"))
    crowd = bool(annotation.get("iscrowd") or annotation.get("ignore"))
    outline: Any = annotation.get("segmentation")
    box: Any = annotation.get("bbox")
    try:
        if isinstance(outline, dict):
            return Region(category, crowd, runs, pack_rle(outline["size"], outline["counts"]))
        if outline:
            rings = outline if isinstance(outline[0], list) else [outline]
            return Region(category, crowd, fill, pack_rings(rings))
        if _has_area(box):
            x, y, width, height = box
            ring = [x, y, x, y + height, x + width, y + height, x + width, y]
            return Region(category, crowd, fill, pack_rings([ring]))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        return Fault(f"{type(error).__name__}: {error}")
    return Region(category, crowd, None, b"")


def _unusable(key: str, got: str) -> SourceError:
    return SourceError(f"{key} is not a whole COCO file.", got=got, expected=EXPECTED, fix="Export it again.")
