"""Label Studio: its exported JSON, or the files that its cloud storage holds, one an annotation or task.

Of several annotations of a task the newest counts that was not cancelled, those with a ground-truth star
first. Polygons, rectangles and ellipses are filled by the rule of COCO, in which Label Studio exports them.
"""

import base64
import io
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import cos, radians, sin
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.ingest.json_stream import read_members
from defectline.components.ingest.readers.base import Layout, Listing, Marked
from defectline.components.ingest.readers.locate import Gathering, is_picture
from defectline.components.ingest.readers.shapes import Shape, fill, mark, pack_rings, read_verdict

NAME = "labelstudio"
EXPECTED = "an exported JSON of Label Studio, or the files of its target storage, and the pictures"

LOOKED_AT = 20
"""Files that are looked into until one is Label Studio's."""
READERS = 16
FILE = re.compile(r"(.*\.json|(.*/)?\d+)", re.IGNORECASE)
"""Keys of its files: those of its storage are numbers, mostly without a suffix."""
OWN = re.compile(rb'"(from_name|was_cancelled|annotation_id|lead_time|ground_truth|completed_by)"\s*:')
HOLDS = re.compile(rb'"(result|annotations|annotator)"\s*:')
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""What Label Studio calls a file that was uploaded."""
OF_EXPORT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
"""Fields of an entry of the export JSON_MIN that are not of the task's data."""


class Annotated(NamedTuple):
    """One annotation, kept small."""

    at: str
    task: str
    picture: str
    order: tuple[bool, str, str]
    """Greater for one that counts sooner."""
    shapes: list[Shape]
    said: list[str]
    size: tuple[int, int] | None
    fault: str


class Found(NamedTuple):
    """What a file holds."""

    annotated: list[Annotated]
    ignored: Counter[str]


def fits(listing: Listing) -> str:
    found = [item.key for item in listing.objects if FILE.fullmatch(item.key)]
    for key in sorted(found, key=lambda key: (key.count("/"), key))[:LOOKED_AT]:
        head = listing.head(key)
        if (
            OWN.search(head)
            and HOLDS.search(head)
            and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{")
        ):
            return f"{key} is Label Studio's"
    return ""


def read(listing: Listing) -> Layout:
    gathering = Gathering(listing)
    tasks: dict[tuple[str, str], Annotated] = {}
    keys = [item.key for item in listing.objects if FILE.fullmatch(item.key)]
    with ThreadPoolExecutor(READERS) as readers:
        for key, found in zip(keys, readers.map(partial(_read_file, listing), keys), strict=True):
            if isinstance(found, SourceError):
                gathering.reject(key, "", key, found.reason, found.fix)
                continue
            gathering.ignored += found.ignored
            for each in found.annotated:
                task = each.task, each.picture
                if task not in tasks or each.order > tasks[task].order:
                    tasks[task] = each
    for each in tasks.values():
        if not each.picture:
            reason = f"Task {each.task} does not name one picture."
            fix = "Give each task one picture, in the field image, and export again."
            gathering.reject(f"task {each.task}", "", each.at, reason, fix)
            continue
        name, otherwise = _names(each.picture)
        gathering.add(name, each.at, partial(_mark, each), otherwise=otherwise)
    return gathering.layout()


def _mark(annotated: Annotated) -> Marked:
    if annotated.fault:
        raise SourceError(
            f"Its annotation cannot be used: {annotated.fault}.",
            got=annotated.fault,
            expected="brushes, polygons, rectangles, ellipses or choices",
            fix="Draw the region again in Label Studio, or remove it.",
        )
    return mark(annotated.at, annotated.shapes, annotated.said, annotated.size)


def _read_file(listing: Listing, key: str) -> Found | SourceError:
    found = Found([], Counter())
    try:
        for entry in _entries(listing, key):
            _read_entry(key, entry, found)
    except SourceError as error:
        return error
    return found


def _entries(listing: Listing, key: str) -> Iterator[dict[str, Any]]:
    """The tasks or annotations in a file."""
    single: dict[str, Any] = {}
    for name, value in read_members(listing, key, ()):
        if name:
            single[name] = value
        else:
            yield value
    if single:
        yield single


def _read_entry(key: str, entry: dict[str, Any], found: Found) -> None:
    """Add what an entry of a file holds: a task, an annotation with its task, or one of JSON_MIN."""
    task = entry.get("task")
    if isinstance(entry.get("data"), dict):
        annotations = entry.get("annotations", entry.get("completions"))
        data, number = entry["data"], entry.get("id")
    elif isinstance(entry.get("result"), list) and isinstance(task, dict):
        annotations, data, number = [entry], task.get("data") or {}, task.get("id")
    elif "annotation_id" in entry or "annotator" in entry:
        annotations, data, number = [_whole(entry)], entry, entry.get("id")
    else:
        found.ignored["JSON without tasks of Label Studio and their pictures"] += 1
        return
    done = [
        each
        for each in annotations or []
        if isinstance(each, dict) and not each.get("was_cancelled") and not each.get("skipped")
    ]
    if not done:
        found.ignored["tasks without an annotation that was not cancelled"] += 1
        return
    picture = _picture(data)
    newest = max(done, key=_order)
    shapes, said, size, fault = _regions(newest.get("result") or [], found.ignored)
    found.annotated.append(Annotated(key, str(number), picture, _order(newest), shapes, said, size, fault))


def _order(annotation: dict[str, Any]) -> tuple[bool, str, str]:
    created = str(annotation.get("created_at") or "")
    return bool(annotation.get("ground_truth")), created, str(annotation.get("id")).zfill(20)


def _whole(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of JSON_MIN as the annotation that it was made of."""
    result: list[dict[str, Any]] = []
    for name, values in entry.items():
        if name in OF_EXPORT:
            continue
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, dict):
                result.append({"value": value} | value)
            # A single choice is a text, as are fields of the task.
            elif isinstance(value, str) and read_verdict(value):
                result.append({"value": {"choices": [value]}})
    return entry | {"id": entry.get("annotation_id"), "result": result}


def _picture(data: dict[str, Any]) -> str:
    """What the data of a task calls its picture, or "" where it does not have one."""
    named = {
        name: value
        for name, value in data.items()
        if isinstance(value, str) and is_picture(_names(value)[0].partition("?")[0])
    }
    chosen = [named[name] for name in ("image", "img") if name in named] or list(named.values())
    return chosen[0] if len(set(chosen)) == 1 else ""


def _names(value: str) -> tuple[str, str]:
    """The path or URL of a picture, and what it may be called as well, from what a task says.

    >>> _names("/data/upload/1/1a2b3c4d-x.png"), _names("/data/local-files/?d=line%202/x.png")
    (('1a2b3c4d-x.png', 'x.png'), ('line 2/x.png', ''))
    """
    parts = urlsplit(value)
    query = parse_qs(parts.query)
    if "/data/local-files" in parts.path and query.get("d"):
        return query["d"][0], ""
    if query.get("fileuri"):
        try:
            return base64.urlsafe_b64decode(query["fileuri"][0]).decode(), ""
        except ValueError:
            return value, ""
    if "/data/upload/" in parts.path:
        name = PurePosixPath(unquote(parts.path)).name
        uploaded = UPLOADED.fullmatch(name)
        return name, uploaded[1] if uploaded else ""
    return value, ""


def _regions(
    results: Iterable[Any], ignored: Counter[str]
) -> tuple[list[Shape], list[str], tuple[int, int] | None, str]:
    """The shapes, the choices, the picture's (height, width), and why the annotation cannot be used or ""."""
    regions: dict[str, dict[str, Any]] = defaultdict(dict)
    shapes: list[Shape] = []
    said: list[str] = []
    size = None
    # A region and its label are two results where the project has them in two tags.
    for number, result in enumerate(results):
        if isinstance(result, dict) and isinstance(result.get("value"), dict):
            region = regions[str(result.get("id") or f"without id {number}")]
            outer = {name: result[name] for name in ("original_width", "original_height") if name in result}
            region |= result["value"] | outer
            if result.get("image_rotation"):
                return [], [], None, "the picture was turned in Label Studio"
    for region in regions.values():
        labels = [
            str(label)
            for name, values in region.items()
            if name.endswith("labels") and isinstance(values, list)
            for label in values
        ]
        name = labels[0] if labels else DEFAULT_CLASSES[0]
        height: Any = region.get("original_height")
        width: Any = region.get("original_width")
        try:
            shape = _shape(region, name, height, width)
        except (ArithmeticError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error) as error:
            return [], [], None, f"region {name}: {error}"
        if shape and not (isinstance(height, int) and isinstance(width, int)):
            return [], [], None, f"region {name} does not say the size of its picture"
        if shape:
            shapes.append(shape)
            size = size or (height, width)
        elif isinstance(region.get("choices"), list):
            said += map(str, region["choices"])
        elif "x" in region and "y" in region:
            said.append(name)
            ignored["keypoints, which mark no region"] += 1
    return shapes, said, size, ""


def _shape(region: dict[str, Any], name: str, height: Any, width: Any) -> Shape | None:
    """The shape of a region; None where it has none. Raises ValueError and the like where it is malformed."""
    if "rle" in region:
        data = np.array(region["rle"], np.uint8).tobytes()
        return Shape(name, brush, struct.pack("<II", height, width) + data)
    if "imageDataURL" in region:
        return Shape(name, bitmask, base64.b64decode(region["imageDataURL"].partition(",")[2]))
    if isinstance(region.get("points"), list):
        ring = [number for x, y in region["points"] for number in (x / 100 * width, y / 100 * height)]
        return Shape(name, fill, pack_rings([ring]))
    if "radiusX" in region:
        across, down = region["radiusX"] * width / 100, region["radiusY"] * height / 100
        around = [(across * cos(radians(each)), down * sin(radians(each))) for each in range(360)]
        ring = [number for point in around for number in _turned(point, region, height, width)]
        return Shape(name, fill, pack_rings([ring]))
    if {"x", "y", "width", "height"} <= region.keys():
        # It is turned about its corner.
        across, down = region["width"] * width / 100, region["height"] * height / 100
        corners = ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down))
        ring = [number for corner in corners for number in _turned(corner, region, height, width)]
        return Shape(name, fill, pack_rings([ring]))
    return None


def _turned(
    point: tuple[float, float], region: dict[str, Any], height: int, width: int
) -> tuple[float, float]:
    """A point that is so much right of and below a region's x and y, in pixels, turned with the region."""
    right, below = point
    angle = radians(region.get("rotation") or 0)
    return (
        region["x"] * width / 100 + right * cos(angle) - below * sin(angle),
        region["y"] * height / 100 + right * sin(angle) + below * cos(angle),
    )


def bitmask(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a mask of the picture's size that are not transparent."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGBA"))[..., 3] > 0
    if pixels.shape != (height, width):
        raise ValueError(f"its mask is {pixels.shape[1]}×{pixels.shape[0]}, the image {width}×{height}")
    return pixels


def brush(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a brush, which is an RGBA picture in Label Studio's run lengths."""
    size = struct.unpack_from("<II", data)
    if size != (height, width):
        raise ValueError(f"its mask is {size[1]}×{size[0]}, the image {width}×{height}")
    return decode_brush(data[8:], height * width * 4).reshape(height, width, 4)[..., 3] > 0


def decode_brush(data: bytes, expected: int) -> NDArray[np.uint8]:
    """The `expected` values of run lengths as rle-pack writes them.

    Bits: how many values (32), bits of a value less one (5), four sizes of lengths less one (4 each); then
    for each run whether one value repeats (1), which size its length has (2), the length less one, and the
    value or values. Raises ValueError where the bits end too soon.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    text = (bits + ord("0")).tobytes()
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(text):
            raise ValueError("its run lengths are cut short")
        return int(text[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total != expected or word > 8:
        raise ValueError(f"its runs make {total} values of {word} bits, not {expected} of 8")
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeats, length = read(1), read(sizes[read(2)]) + 1
        end = min(done + length, total)
        if repeats:
            values[done:end] = read(word)
        else:
            count = end - done
            if at + count * word > len(bits):
                raise ValueError("its run lengths are cut short")
            words = bits[at : at + count * word].reshape(count, word)
            values[done:end] = np.packbits(words, axis=1)[:, 0] >> (8 - word)
            at += count * word
        done = end
    return values
