"""TIFF: what Pillow reads wrong, and what it cannot read, by the tags of the file."""

import io
from typing import Any

from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import COMPRESSION_INFO, MM, ImageFileDirectory_v2, TiffImageFile

from defectline.components.common.images.unreadable import AS_16_BITS, UnreadableImage, unread

# Pillow's own reader of what is not compressed takes wrong bytes for planes of 16 bits and for
# subsampled YCbCr; libtiff, which it uses for all else, does not.
TiffImagePlugin.READ_LIBTIFF = True
TiffImagePlugin.OPEN_INFO[(MM, 0, (1,), 1, (16,), ())] = ("I;16B", "I;16B")

SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, FORMAT, DNG = 254, 258, 259, 262, 277, 339, 50706
WHITE_IS_ZERO = 0
PALETTE = 3
JPEG_CODED = (6, 7)
REDUCED = 0b101
"""In SUBFILE: a smaller version of another picture, or where it is transparent."""
MOST_PAGES = 16
PACKED = range(9, 16)
"""Bits a channel that do not fill two bytes; Pillow reads 12 of some greys."""
SUPPORTED = {number for number, name in COMPRESSION_INFO.items() if name != "webp"}
PHOTOMETRICS = {
    0: "grey, white is 0",
    1: "grey",
    2: "RGB",
    3: "a palette",
    4: "a transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "raw colour filter values",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw linear values",
}
COMPRESSIONS = {
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34713: "Nikon raw",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
LOSSLESS = "Save it as TIFF with LZW, Deflate or no compression, or as PNG."
FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 4: "untyped ", 5: "complex ", 6: "complex "}


def check_tags(picture: TiffImageFile) -> None:
    """Raise UnreadableImage for what is not the picture, or would be decoded wrong."""
    if problem := _problem(picture.tag_v2):
        raise problem


def unreadable_tags(data: bytes) -> UnreadableImage | None:
    """What is unusual in a TIFF that Pillow cannot open; None where it is not one."""
    tags = _read_tags(data)
    if tags is None:
        return None
    if problem := _problem(tags):
        return problem
    if (bits := _first(tags, BITS, 1)) in PACKED:
        return unread(
            f"The picture is a TIFF of {bits} bits a channel, packed without gaps, which is not read.",
            _describe(tags),
            AS_16_BITS,
        )
    return unread(
        "The picture is a TIFF of a kind that is not read.",
        _describe(tags),
        "Save it as grey or RGB with 8 or 16 bits a channel, as TIFF or PNG.",
    )


def pages(picture: TiffImageFile) -> int:
    """How many pictures the file holds, smaller versions of the first left out."""
    count = picture.n_frames
    if count > MOST_PAGES:
        return count
    others = 0
    for number in range(1, count):
        picture.seek(number)
        others += not _first(picture.tag_v2, SUBFILE, 0) & REDUCED
    picture.seek(0)
    return 1 + others


def bits(picture: TiffImageFile) -> int:
    """Bits a channel."""
    return int(_first(picture.tag_v2, BITS, 1))


def is_inverted(picture: TiffImageFile) -> bool:
    """Whether 0 is white in a picture that Pillow does not invert."""
    return picture.mode.startswith("I") and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def is_lossy(picture: TiffImageFile) -> bool:
    return _first(picture.tag_v2, COMPRESSION, 1) in JPEG_CODED


def _problem(tags: ImageFileDirectory_v2) -> UnreadableImage | None:
    compression, kind = _first(tags, COMPRESSION, 1), _first(tags, PHOTOMETRIC, 1)
    if DNG in tags or kind in (32803, 34892):
        return unread("The picture is a camera's raw file, which is not read.", _describe(tags), AS_16_BITS)
    if _first(tags, SUBFILE, 0) & REDUCED:
        return unread(
            "The first picture in the file is a smaller version of another one.",
            _describe(tags),
            "Save the picture itself as TIFF or PNG, alone in its file.",
        )
    if compression not in SUPPORTED:
        name = COMPRESSIONS.get(compression, f"compression {compression}")
        return unread(
            f"The picture is a TIFF that holds {name}, which is not read.",
            _describe(tags),
            LOSSLESS,
        )
    if compression in JPEG_CODED and (kind == PALETTE or _first(tags, BITS, 8) != 8):
        return unread("The picture is a TIFF that holds an unusual JPEG.", _describe(tags), LOSSLESS)
    if (_first(tags, FORMAT, 1), _first(tags, BITS, 1)) == (2, 8):
        return unread("The picture's values are signed.", _describe(tags), "Export it without a sign.")
    return None


def _describe(tags: ImageFileDirectory_v2) -> str:
    samples, compression = _first(tags, SAMPLES, 1), _first(tags, COMPRESSION, 1)
    name = COMPRESSION_INFO.get(compression) or COMPRESSIONS.get(compression, f"compression {compression}")
    kind = PHOTOMETRICS.get(_first(tags, PHOTOMETRIC, 1), "unknown colours")
    sign = FORMATS.get(_first(tags, FORMAT, 1), "untyped ")
    return f"{kind}, {samples} × {_first(tags, BITS, 1)} {sign}bits, {name.removeprefix('tiff_')}"


def _first(tags: ImageFileDirectory_v2, tag: int, default: int) -> Any:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


def _read_tags(data: bytes) -> ImageFileDirectory_v2 | None:
    try:
        tags = ImageFileDirectory_v2(data[:16] if data[2:3] == b"\x2b" or data[3:4] == b"\x2b" else data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        return tags if tags.get(256) and tags.get(257) else None
    except Exception:
        # Damage makes Pillow's readers raise almost anything.
        return None
