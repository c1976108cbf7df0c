"""From a file's bytes to the pixels of a picture."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.images.opening import (
    FORMATS,
    MAX_PIXELS,
    Opened,
    format_of,
    open_header,
    open_picture,
    sixteen_bits,
)
from defectline.components.common.images.unreadable import UnreadableImage

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Picture",
    "UnreadableImage",
    "decode_image",
    "format_of",
    "open_header",
    "pixel_digest",
    "read_image",
]

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's names of the 8-bit pictures that can be read, in addition to the 16-bit greys, I and I;16."""
NARROW = 16
"""Of 256 levels: a 16-bit picture that stays below holds the numbers of a camera of 12 bits or fewer, and one
that spans fewer shows next to nothing."""
POOR = 64
"""Of 256 levels: a 16-bit picture that spans no more, as the numbers of a camera of 14 bits, is noted."""
RESCALE = "Scale pictures to all 16 bits when they are exported, all in the same way, or save 8."


class Picture(NamedTuple):
    """A picture as it was read."""

    pixels: NDArray[np.uint8]
    """(H, W, channels), upright."""
    orientation: int
    """How the file says that the camera was held, as EXIF counts: 1 (upright, or not said) to 8."""
    note: str
    """What is poor about it; mostly empty."""


def decode_image(data: bytes, channels: int = 1) -> NDArray[np.uint8]:
    """The pixels that `read_image` reads, uint8 (H, W, channels). Raises UnreadableImage."""
    return read_image(data, channels).pixels


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 in hex over a decoded picture, uint8 (H, W, 3): the same for copies in another format. Pure."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(pixels).reshape(-1).data)
    return digest.hexdigest()


def read_image(data: bytes, channels: int = 1) -> Picture:
    """A picture, turned upright by its EXIF orientation, and what that was.

    Of 16 bits a channel the upper eight are kept, and must be more than NARROW levels; palettes are looked
    up; alpha is dropped. Raises UnreadableImage.
    """
    opened = open_picture(data)
    picture, orientation = opened.picture, opened.orientation
    if picture.mode.startswith("I"):
        values = _grey(opened)
        note = _judge(values)
        grey = (values >> 8).astype(np.uint8)
        return Picture(np.repeat(grey[..., None], channels, axis=2), orientation, note)
    if picture.mode not in MODES:
        raise UnreadableImage(
            "The picture's kind of pixels cannot be used.",
            got=f"mode {picture.mode}",
            fix="Export it as grey or RGB, with 8 or 16 bits a channel.",
        )
    note = _judge_colours(opened) if opened.bits == 16 else ""
    mode = "L" if channels == 1 else "RGB"
    # Converting copies, even where there is nothing to convert.
    pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return Picture(pixels.reshape(*pixels.shape[:2], channels), orientation, note)


def _grey(opened: Opened) -> NDArray[np.uint16]:
    """The values of a grey picture of more than 8 bits, scaled to 16. Raises UnreadableImage."""
    values = np.asarray(opened.picture)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(
            "The picture's values are out of range.",
            got=f"values from {values.min()} to {values.max()}",
            fix="Export it with 8 or 16 bits a channel.",
        )
    return np.left_shift(values.astype(np.uint16), max(0, 16 - opened.bits), dtype=np.uint16)


def _judge_colours(opened: Opened) -> str:
    """As `_judge`, of the channels but alpha."""
    colours = sum(band not in "AX" for band in opened.picture.getbands())
    upper = np.asarray(opened.picture).reshape(*opened.picture.size[::-1], -1)[..., :colours]
    return "" if int(upper.max()) - int(upper.min()) >= POOR else _judge(sixteen_bits(opened)[..., :colours])


def _judge(values: NDArray[np.uint16]) -> str:
    """What to note of how many of its 16 bits a picture uses. Raises UnreadableImage for too few."""
    low, high = int(values.min()), int(values.max())
    levels = (high >> 8) - (low >> 8) + 1
    if high >> 8 < NARROW:
        raise UnreadableImage(
            "The picture is black: of 16 bits a channel it uses the lowest 12 at most.",
            got=f"no value above {high}",
            fix="Scale pictures of 10 or 12 bits to 16 when they are exported, or save 8.",
        )
    # Of 8 bits that were widened to 16 nothing is lost.
    if levels > POOR or not np.any((values & 255 != 0) & (values & 255 != values >> 8)):
        return ""
    if levels < NARROW:
        raise UnreadableImage(
            f"The picture shows nothing: of 256 levels of its 16 bits it uses {levels}.",
            got=f"values from {low} to {high}",
            fix=RESCALE,
        )
    return f"The picture has 16 bits and uses values from {low} to {high}: {levels} of 256 levels."
