"""Shapes that people drew, as pixels: what the annotation tools have in common.

Of shapes that overlap the later one counts.
"""

import hashlib
import json
import re
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import isfinite, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from defectline.components.common.classes import GOOD, IGNORE, MOST_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers.base import Marked

Rule = Callable[[bytes, int, int], NDArray[np.bool_]]
"""Which pixels of a picture of this height and width a shape's `data` mean, bool (height, width).

Raises ValueError where it does not fit.
"""
LINE_PX = 3
"""Width of a line that no tool gives a width."""

OK_WORDS = frozenset(
    {"ok", "io", "good", "normal", "pass", "passed", "clean", "nodefect", "nodefects", "defectfree"}
)
NG_WORDS = frozenset(
    {"ng", "nok", "nio", "ko", "notok", "notgood", "nogood", "bad", "fail", "failed", "reject", "rejected"}
    | {"scrap", "defect", "defects", "defective", "anomaly", "anomalous", "abnormal"}
)
IGNORED_NAMES = frozenset({"ignore", "ignored", "dontcare", "crowd", "void"})
GOOD_NAMES = frozenset({"background", "ok", "good", "nodefect"})


class Shape(NamedTuple):
    """One drawn region, kept small: there may be a hundred thousand."""

    name: str
    """Its class, as the tool calls it; one of IGNORED_NAMES does not count, one of GOOD_NAMES is good."""
    rule: Rule
    data: bytes


class Annotation(NamedTuple):
    """The shapes of a picture: a Drawing."""

    key: str
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None
    """(height, width) of the picture when it was annotated, where the file says it."""

    @property
    def names(self) -> list[str]:
        """The classes in the picture: the record's legend."""
        return sorted({shape.name for shape in self.shapes if _value(shape.name) is None})

    @property
    def version(self) -> str:
        digest = hashlib.sha256(repr(self.size).encode())
        for name, rule, data in self.shapes:
            digest.update(f"\0{name}\0{rule.__name__}\0{len(data)}\0".encode())
            digest.update(data)
        return digest.hexdigest()[:32]

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        if self.size and self.size != (height, width):
            raise SourceError(
                f"Annotated at another size: {self.size[1]}×{self.size[0]}, the image is {width}×{height}.",
                got=self.key,
                expected=f"{width}×{height}",
                fix="Export the annotations and the pictures together; a picture that EXIF turns is upright "
                "here.",
            )
        numbers = {name: number for number, name in enumerate(self.names, start=1)}
        canvas = np.zeros((height, width), np.uint8)
        marked = not numbers
        for shape in self.shapes:
            try:
                pixels = shape.rule(shape.data, height, width)
            except ValueError as error:
                raise SourceError(
                    f"The shape {shape.name} cannot be drawn: {error}.",
                    got=str(error),
                    expected="a shape that fits the picture",
                    fix="Draw it again in the annotation tool.",
                ) from error
            value = _value(shape.name)
            marked |= value is None and bool(pixels.any())
            np.copyto(canvas, np.uint8(numbers[shape.name] if value is None else value), where=pixels)
        if not marked:
            # Not a good picture: a defect was seen here.
            raise SourceError(
                f"No pixel lies in any shape: {', '.join(numbers)}.",
                got=f"{len(self.shapes)} shapes outside the picture, or without area",
                expected="at least one pixel",
                fix="Draw the defect again, or remove the shape.",
            )
        return canvas


def mark(
    key: str,
    shapes: Sequence[Shape],
    said: Iterable[str] = (),
    size: tuple[int, int] | None = None,
) -> Marked:
    """What shapes of a picture in the annotation file `key` mean, and what is `said` of the whole picture.

    Of what is said OK_WORDS and NG_WORDS count. A picture of which nothing is drawn and nothing said is good;
    one that is NG without a drawing has no mask. Raises SourceError where what is said contradicts itself, or
    is something else and nothing is drawn.
    """
    said = list(said)
    verdicts = {verdict for word in said if (verdict := read_verdict(word))}
    if len(verdicts) > 1 or (said and not verdicts and not shapes):
        raise SourceError(
            f"Whether the picture is good is not clear: it is called {', '.join(said)}"
            + ("." if shapes or verdicts else ", and nothing is drawn."),
            got=", ".join(said),
            expected="OK, NG or a drawn region",
            fix="Draw the defect, or call the picture OK or NG in the annotation tool.",
        )
    verdict = next(iter(verdicts), "")
    if not shapes:
        return Marked(verdict or "OK", None)
    annotation = Annotation(key, tuple(shapes), size)
    if len(annotation.names) > MOST_CLASSES:
        raise SourceError(
            f"The picture has {len(annotation.names)} classes.",
            got=", ".join(annotation.names),
            expected=f"at most {MOST_CLASSES}",
            fix="Give kinds of defects the same label that are judged alike.",
        )
    # A list even where it is empty: it says that 255 in the mask does not count.
    return Marked(verdict, annotation, json.dumps(annotation.names, ensure_ascii=False))


def read_verdict(word: str) -> str:
    """OK or NG where a tag, flag, choice or folder says so; "" for other words.

    >>> [read_verdict(word) for word in ("Good", "not_ok", "n.i.O.", "dusty")]
    ['OK', 'NG', 'NG', '']
    """
    plain = _plain(word)
    return "OK" if plain in OK_WORDS else "NG" if plain in NG_WORDS else ""


def read_split(text: str) -> str:
    """The split that the name of a file or folder says, or "".

    >>> [read_split(text) for text in ("instances_train2017", "valid", "annotations", "Test")]
    ['train', 'validation', '', 'test']
    """
    words = re.split(r"[^a-z]+", text.casefold())
    known = {"train": "train", "training": "train", "test": "test", "testing": "test"}
    known |= dict.fromkeys(("val", "valid", "validation"), "validation")
    return next((known[word] for word in reversed(words) if word in known), "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


@cache
def _value(name: str) -> int | None:
    """The number of a region that is not one of a defect."""
    plain = _plain(name)
    return IGNORE if plain in IGNORED_NAMES else GOOD if plain in GOOD_NAMES else None


# Rules.


def pack_rings(rings: Iterable[Sequence[float]]) -> bytes:
    """The data of `fill`: rings of x, y, x, y, …, in pixels. Raises ValueError for what is not numbers."""
    packed = array("d")
    for ring in rings:
        try:
            if len(ring) % 2 or not all(map(isfinite, ring)):
                raise ValueError("its points are not pairs of finite numbers")
            packed.extend(ring)
        except TypeError as error:
            raise ValueError("its points are not pairs of numbers") from error
        packed.extend((nan, nan))
    return packed.tobytes()


def unpack_rings(data: bytes) -> list[NDArray[np.float64]]:
    """The rings of `pack_rings`, each (points, 2)."""
    points = np.frombuffer(data, np.float64).reshape(-1, 2)
    ends = np.flatnonzero(np.isnan(points[:, 0]))
    return [points[start:end] for start, end in zip([0, *ends + 1], ends, strict=False)]


def fill(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels in any of several polygons, by the rule of COCO, CVAT and Datumaro."""
    rings = [ring.ravel().tolist() for ring in unpack_rings(data) if len(ring) > 2]
    if not rings:
        return np.zeros((height, width), bool)
    return decode_rle(coco_mask.merge(coco_mask.frPyObjects(rings, height, width)))


def pack_rle(size: Sequence[int], counts: str | list[int]) -> bytes:
    """The data of `runs`: COCO's run lengths, compressed or not, with their (height, width)."""
    height, width = (int(side) for side in size)
    if isinstance(counts, str):
        return struct.pack("<II", height, width) + counts.encode()
    if sum(counts) != height * width:
        raise ValueError(f"its runs make {sum(counts)} pixels, not {height * width}")
    compressed = coco_mask.frPyObjects({"counts": counts, "size": [height, width]}, height, width)
    return struct.pack("<II", height, width) + bytes(compressed["counts"])


def runs(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a mask in COCO's run lengths."""
    size = struct.unpack_from("<II", data)
    if size != (height, width):
        raise ValueError(f"its mask is {size[1]}×{size[0]}, the image {width}×{height}")
    return decode_rle({"size": [height, width], "counts": data[8:]})


def decode_rle(rle: dict[str, object]) -> NDArray[np.bool_]:
    """pycocotools' run lengths as bool (height, width). Raises ValueError where they do not fit."""
    return coco_mask.decode(rle).view(bool)


def pack_line(points: Sequence[float], width: float = LINE_PX) -> bytes:
    """The data of `line`: its width and x, y, x, y, …, in pixels."""
    return pack_rings([[width, 0.0, *points]])


def line(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of an open line."""
    ((thickness, _), *points) = unpack_rings(data)[0].tolist()
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).line([(x, y) for x, y in points], fill=1, width=round(thickness))
    return np.asarray(canvas).astype(bool)
