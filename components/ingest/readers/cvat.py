"""CVAT: its XML for images, version 1.1, which Datumaro writes as well.

Pixels are those of CVAT's own export of masks. Shapes lie on each other by their z_order; polylines, which
that export leaves out, are LINE_PX wide.
"""

import io
import re
import struct
from collections import Counter
from functools import partial
from math import cos, radians, sin
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers.base import Layout, Listing, Marked
from defectline.components.ingest.readers.locate import Gathering
from defectline.components.ingest.readers.shapes import (
    Shape,
    fill,
    line,
    mark,
    pack_line,
    pack_rings,
    read_split,
)

NAME = "cvat"
EXPECTED = "an XML file of CVAT for images 1.1, and the pictures"

LOOKED_AT, MOST_FILES = 20, 200
"""XML files that are looked into to know the format, and to read it."""
NOT_DRAWN = ("points", "cuboid", "skeleton")


class Image(NamedTuple):
    """What the file says of a picture; elements of XML would take much more memory."""

    name: str
    subset: str
    size: tuple[int, int] | None
    shapes: list[tuple[int, Shape]]
    """With their z_order."""
    said: list[str]
    fault: str


def fits(listing: Listing) -> str:
    # Where there are thousands, each is of one picture, and of another format.
    found = _files(listing, LOOKED_AT)
    return f"{found[0]} is CVAT's" if found else ""


def _files(listing: Listing, most: int = MOST_FILES) -> list[str]:
    named = [item for item in listing.objects if item.key.lower().endswith(".xml")]
    named.sort(key=lambda item: (item.key.count("/"), -item.size, item.key))
    # `<annotation>` alone is Pascal VOC.
    is_cvat = re.compile(rb"<annotations[\s>]").search
    return sorted(item.key for item in named[:most] if is_cvat(listing.head(item.key)))


def read(listing: Listing) -> Layout:
    gathering = Gathering(listing)
    for key in _files(listing):
        split = read_split(PurePosixPath(key).stem) or read_split(PurePosixPath(key).parent.name)
        for image in _images(listing, key, gathering.ignored):
            subset = "" if image.subset.lower() == "default" else image.subset
            gathering.add(image.name, key, partial(_mark, key, image), read_split(subset) or split, subset)
    return gathering.layout()


def _mark(key: str, image: Image) -> Marked:
    if image.fault:
        raise SourceError(
            f"One of its annotations cannot be used: {image.fault}.",
            got=image.fault,
            expected="polygons, boxes, ellipses, polylines, masks or tags",
            fix="Draw it again in CVAT, or remove it.",
        )
    shapes = [shape for _, shape in sorted(image.shapes, key=lambda item: item[0])]
    return mark(key, shapes, image.said, image.size)


def _images(listing: Listing, key: str, ignored: Counter[str]) -> list[Image]:
    """The pictures of an XML file. Raises SourceError."""
    images, tracks = [], 0
    try:
        elements = ElementTree.iterparse(io.BytesIO(listing.read(key)), events=("start", "end"))
        _, root = next(elements)
        for event, element in elements:
            if event == "end" and element.tag == "image":
                images.append(_image(element, ignored))
                root.clear()
            tracks += event == "end" and element.tag == "track"
    except (ElementTree.ParseError, ValueError) as error:
        raise SourceError(
            f"{key} is not a whole XML file.", got=str(error), expected=EXPECTED, fix="Export it again."
        ) from error
    if tracks and not images:
        raise SourceError(
            f"{key} is CVAT's format for videos.",
            got=f"{tracks} tracks, which name no pictures",
            expected=EXPECTED,
            fix="Export the task as CVAT for images 1.1.",
        )
    return images


def _image(element: ElementTree.Element, ignored: Counter[str]) -> Image:
    name, subset = element.get("name", ""), element.get("subset", "")
    image = Image(name, subset, _size(element), [], [], "")
    for child in element:
        label = child.get("label", "")
        if child.get("outside") == "1":
            continue
        if child.tag == "tag":
            image.said.append(label)
        elif child.tag in NOT_DRAWN:
            # A picture of which only these are known is not a good one.
            image.said.append(label)
            ignored[f"{child.tag} of CVAT, which mark no region"] += 1
        else:
            try:
                shape = _shape(child, label)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                return image._replace(fault=f"{child.tag} {label}: {error}")
            image.shapes.append((int(child.get("z_order") or 0), shape))
    return image


def _size(element: ElementTree.Element) -> tuple[int, int] | None:
    height, width = element.get("height", ""), element.get("width", "")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def _shape(element: ElementTree.Element, label: str) -> Shape:
    """The shape of an element. Raises ValueError, TypeError or KeyError where it is malformed."""
    values = element.attrib
    angle = float(values.get("rotation", "0"))
    match element.tag:
        case "polygon":
            return Shape(label, fill, pack_rings([_points(values["points"])]))
        case "polyline":
            return Shape(label, line, pack_line(_points(values["points"])))
        case "box":
            left, top, right, bottom = (float(values[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
            return Shape(label, fill, pack_rings([turned_box(left, top, right, bottom, angle)]))
        case "ellipse":
            numbers = [float(values[name]) for name in ("cx", "cy", "rx", "ry")]
            return Shape(label, ellipse, pack_rings([[*numbers, angle, 0.0]]))
        case "mask":
            window = [int(values[name]) for name in ("left", "top", "width", "height")]
            counts = np.array([int(count) for count in values["rle"].split(",")], np.uint32)
            return Shape(label, window_runs, struct.pack("<4i", *window) + counts.tobytes())
    raise ValueError("shapes of this kind are not known")


def _points(text: str) -> list[float]:
    return [float(number) for point in text.split(";") for number in point.split(",")]


def turned_box(left: float, top: float, right: float, bottom: float, degrees: float) -> list[float]:
    """The corners x, y, x, y, … of a box that is turned about its centre, clockwise."""
    x, y = left + (right - left) / 2, top + (bottom - top) / 2
    turn_x, turn_y = cos(radians(degrees)), sin(radians(degrees))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    if not degrees:
        return [number for corner in corners for number in corner]
    return [
        number
        for at_x, at_y in corners
        for number in (
            x + turn_x * (at_x - x) - turn_y * (at_y - y),
            y + turn_y * (at_x - x) + turn_x * (at_y - y),
        )
    ]


def ellipse(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of an ellipse of centre, radii and angle, as CVAT draws it: in whole pixels."""
    x, y, radius_x, radius_y, degrees, _ = np.frombuffer(data, np.float64)[:6].tolist()
    canvas = np.zeros((height, width), np.uint8)
    centre, radii = (round(x), round(y)), (round(radius_x), round(radius_y))
    cv2.ellipse(canvas, centre, radii, degrees, 0, 360, 1, thickness=-1)
    return canvas.view(bool)


def window_runs(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of run lengths in a part of the picture, row by row."""
    left, top, across, down = struct.unpack_from("<4i", data)
    counts = np.frombuffer(data, np.uint32, offset=16)
    if min(left, top) < 0 or top + down > height or left + across > width:
        raise ValueError("its mask reaches beyond the picture")
    if counts.sum(dtype=np.int64) != across * down:
        raise ValueError(f"its runs make {counts.sum(dtype=np.int64)} pixels, not {across}×{down}")
    pixels = np.zeros((height, width), bool)
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    pixels[top : top + down, left : left + across] = inside.reshape(down, across)
    return pixels
