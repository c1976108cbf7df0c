"""From a file's bytes to the numbers of classes in each pixel, and back."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.images.reading import UnreadableImage, open_picture

RINGING = 40
"""How far from 0 and 255 a smoothed mask may be anywhere: JPEG of quality 75 strays up to 37."""
EDGE_PX = 2
"""How far from an edge of its threshold a smoothed mask may hold any value."""


class Mask(NamedTuple):
    """A mask as it was read."""

    pixels: NDArray[np.uint8]
    """(H, W), 1 where the defect is."""
    orientation: int
    """As in Picture."""
    note: str
    """What was changed to get there; mostly empty."""


def read_mask(data: bytes) -> Mask:
    """A two-valued mask, and what had to be done to make it one.

    The file may hold 0 and 1, 0 and 255 or, with 16 bits, 0 and 65535. Of a palette the colours count or,
    where they are not black and white, the indices 0 and 1. Edges that an editor or JPEG smoothed are
    thresholded: values between black and white only within EDGE_PX of an edge, and elsewhere none that is
    further than RINGING from 0 or 255. Raises UnreadableImage for anything else.
    """
    picture, orientation = open_picture(data)
    if picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise UnreadableImage(
            "The mask is transparent in places.",
            got="an alpha channel that is not 255 everywhere",
            fix="Export it without transparency, black for good and white for defect.",
        )
    several = len(picture.getbands()) > 1
    shades = np.asarray(picture.convert("L") if several or picture.mode == "P" else picture)
    for values in (shades, np.asarray(picture)) if picture.mode == "P" else (shades,):
        if _two_valued(values):
            return Mask((values > 0).astype(np.uint8), orientation, "")
    if (grey := _eight_bits(shades)) is not None and (smoothed := _threshold(grey)) is not None:
        between = np.count_nonzero((grey > 0) & (grey < 255))
        return Mask(
            smoothed, orientation, f"Smoothed: {between} px between black and white were split at half."
        )
    found = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in found)
    raise UnreadableImage(
        "The mask holds other values than 0 and 255, or 0 and 1.",
        got=listed if len(found) <= 5 else f"{len(found)} values from {found[0]:g} to {found[-1]:g}",
        fix="Export it with 0 for good and 255 for defect, as PNG or BMP, without smoothing.",
    )


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """The mask that `read_mask` reads, uint8 (H, W), 1 where the defect is. Raises UnreadableImage."""
    return read_mask(data).pixels


def decode_truth(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask of a picture of `shape` (H, W): that of the file or, where there is none, an empty one."""
    return decode_mask(data) if data else np.zeros(shape, np.uint8)


def _two_valued(values: NDArray[np.generic]) -> bool:
    top = values.max(initial=0)
    return bool(top in (0, 1, 255, 65535) and np.all((values == 0) | (values == top)))


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8] | None:
    """Greys of 8 or 16 bits as 8 bits; None for numbers that are not greys."""
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 65535:
        return None
    return (
        values.astype(np.uint8) if values.max() <= 255 else (values.astype(np.uint16) >> 8).astype(np.uint8)
    )


def _threshold(grey: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A smoothed mask split at half, or None where its values say more than that."""
    # Numbers of classes, with 255 for "ignore", leave a gap that no smoothing leaves.
    if not np.any((grey > RINGING) & (grey < 255)):
        return None
    truth = (grey >= 128).astype(np.uint8)
    around = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    level = cv2.dilate(truth, around) == cv2.erode(truth, around)
    if np.any(level & (grey > RINGING) & (grey < 255 - RINGING)):
        return None
    # A thin grey scratch lies within its own edges, but is another class or a doubt, not a white one.
    count, regions = cv2.connectedComponents(truth, connectivity=8)
    white = np.zeros(count, bool)
    white[regions[grey >= 255 - RINGING]] = True
    return truth if white[1:].all() else None


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """A mask (H, W) of 0 and 1 as a 1-bit PNG."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(out, "PNG")
    return out.getvalue()
