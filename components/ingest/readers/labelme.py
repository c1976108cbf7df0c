"""labelme: a JSON beside each picture.

Pixels are those of labelme's own export: lines are 10 px wide there, points circles of 5 px.
"""

import base64
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import dist
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from defectline.components.common.errors import SourceError
from defectline.components.common.storage import Object
from defectline.components.ingest.readers.base import Layout, Listing, Marked, Sidecar
from defectline.components.ingest.readers.locate import Gathering, is_picture, stem
from defectline.components.ingest.readers.shapes import (
    Rule,
    Shape,
    line,
    mark,
    pack_line,
    pack_rings,
    read_verdict,
    unpack_rings,
)

NAME = "labelme"
EXPECTED = "a JSON of labelme for each picture, beside it"

LOOKED_AT = 20
"""JSON files that are looked into until one is labelme's."""
READERS = 16
LINE_PX, POINT_PX = 10, 5
"""Width of lines and radius of points in labelme's export."""


def fits(listing: Listing) -> str:
    found = [item.key for item in listing.objects if item.key.lower().endswith(".json")]
    for key in sorted(found, key=lambda key: (key.count("/"), key))[:LOOKED_AT]:
        if _is_labelme(listing.head(key)):
            return f"{key} is labelme's"
    return ""


def _is_labelme(head: bytes) -> bool:
    return bool(re.search(rb'"shapes"\s*:\s*\[', head)) and (
        b'"imagePath"' in head or b'"shape_type"' in head or b'"flags"' in head
    )


def read(listing: Listing) -> Layout:
    gathering = Gathering(listing)
    by_stem: dict[str, list[Object]] = defaultdict(list)
    for item in listing.objects:
        if is_picture(item.key):
            by_stem[stem(item.key).rpartition("/")[2]].append(item)
    unsure = []
    for file in listing.objects:
        if not file.key.lower().endswith(".json"):
            continue
        named = by_stem[stem(file.key).rpartition("/")[2]]
        beside = [item for item in named if stem(item.key) == stem(file.key)]
        if len(found := beside or named) == 1:
            gathering.put(found[0], file.key, Sidecar(file, partial(_parse, file.key, found[0].key)))
        else:
            unsure.append(file)
    # Which picture these are of, only they say.
    with ThreadPoolExecutor(READERS) as readers:
        for file, found_in in zip(unsure, readers.map(partial(_look, listing), unsure), strict=True):
            if isinstance(found_in, SourceError):
                gathering.reject(file.key, "", file.key, found_in.what, found_in.fix)
            elif found_in is None:
                gathering.ignored["JSON files that are not labelme's"] += 1
            else:
                path, marked = found_in
                gathering.add(path, file.key, partial(_itself, marked))
    for item in gathering.pictures.unnamed():
        if any(read_verdict(folder) == "OK" for folder in PurePosixPath(item.key).parent.parts):
            gathering.put(item, item.key, None)
    return gathering.layout()


def _look(listing: Listing, file: Object) -> tuple[str, Marked] | SourceError | None:
    """The path of a file's picture and what it says, why it says nothing, None where it is not labelme's."""
    try:
        data = listing.read(file.key)
        if not _is_labelme(data):
            return None
        content = _load(file.key, data)
        path = PureWindowsPath(str(content.get("imagePath") or "")).as_posix()
        return path, _parse(file.key, path, data)
    except SourceError as error:
        return error


def _itself(marked: Marked) -> Marked:
    return marked


def _load(key: str, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unusable(key, str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise _unusable(key, "no list of shapes")
    return content


def _parse(key: str, picture: str, data: bytes) -> Marked:
    """What the file `key` says of the picture. Raises SourceError."""
    content = _load(key, data)
    path = PureWindowsPath(str(content.get("imagePath") or picture)).as_posix()
    # Pictures may have been converted since, under the same name.
    if stem(PurePosixPath(path).name).casefold() != stem(PurePosixPath(picture).name).casefold():
        raise SourceError(
            f"{key} is of another picture: {path}.",
            got=path,
            expected=PurePosixPath(picture).name,
            fix="Give the JSON the name of its picture.",
        )
    shapes = []
    for number, shape in enumerate(content["shapes"], start=1):
        try:
            shapes.append(_shape(shape))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise _unusable(key, f"shape {number}: {error}") from error
    flags = content.get("flags")
    said = [name for name, is_set in flags.items() if is_set] if isinstance(flags, dict) else []
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return mark(key, shapes, said, size)


def _unusable(key: str, got: str) -> SourceError:
    return SourceError(
        f"{key} cannot be used: {got}.",
        got=got,
        expected="a file that labelme saved",
        fix="Open it in labelme, and save it again.",
    )


def _shape(shape: dict[str, Any]) -> Shape:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    name = str(shape["label"])
    if kind == "mask":
        return Shape(name, stamp, pack_rings([points[0]]) + base64.b64decode(shape["mask"]))
    least, rule = RULES.get(kind, (0, None))
    if rule is None:
        raise ValueError(f"its type {kind} is not known")
    if len(points) < least:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind == "rectangle" and len(points) == 4:
        rule = polygon
    numbers = [number for point in points for number in point]
    return Shape(name, rule, pack_line(numbers, LINE_PX) if rule is line else pack_rings([numbers]))


def stamp(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a small mask, which lies somewhere in the picture."""
    left, top = (int(number) for number in unpack_rings(data[: 4 * 8])[0][0])
    with Image.open(io.BytesIO(data[4 * 8 :])) as picture:
        inside = np.asarray(picture).astype(bool)
    if inside.ndim != 2 or left < 0 or top < 0:
        raise ValueError("its mask is not a grey picture within the picture")
    pixels = np.zeros((height, width), bool)
    target = pixels[top : top + inside.shape[0], left : left + inside.shape[1]]
    if target.shape != inside.shape:
        raise ValueError("its mask reaches beyond the picture")
    target[:] = inside
    return pixels


def _drawn(
    draw: Callable[[ImageDraw.ImageDraw, list[tuple[float, float]]], object],
    data: bytes,
    height: int,
    width: int,
) -> NDArray[np.bool_]:
    canvas = Image.new("L", (width, height))
    draw(ImageDraw.Draw(canvas), [(x, y) for x, y in unpack_rings(data)[0].tolist()])
    return np.asarray(canvas).astype(bool)


def polygon(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    return _drawn(lambda pen, points: pen.polygon(points, fill=1, outline=1), data, height, width)


def rectangle(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    def draw(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
        xs, ys = zip(*points, strict=True)
        pen.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=1, outline=1)

    return _drawn(draw, data, height, width)


def circle(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    return _drawn(lambda pen, points: _disc(pen, points[0], dist(*points[:2])), data, height, width)


def dot(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    return _drawn(lambda pen, points: _disc(pen, points[0], POINT_PX), data, height, width)


def _disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)


RULES: Mapping[str, tuple[int, Rule]] = {
    "polygon": (3, polygon),
    "oriented_rectangle": (4, polygon),
    "rotation": (4, polygon),
    "rectangle": (2, rectangle),
    "circle": (2, circle),
    "line": (2, line),
    "linestrip": (2, line),
    "point": (1, dot),
}
"""Type of a shape → its least number of points, and how it is drawn."""
