"""From a file's bytes to the numbers of classes in each pixel, and back."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.classes import IGNORE, MOST_CLASSES
from defectline.components.common.images.reading import UnreadableImage, open_picture

RINGING = 40
"""How far from 0 and 255 a smoothed mask may be anywhere: JPEG of quality 75 strays up to 37."""
EDGE_PX = 2
"""How far from an edge of its threshold a smoothed mask may hold any value."""


class Mask(NamedTuple):
    """A mask as it was read."""

    pixels: NDArray[np.uint8]
    """(H, W), the number of a class in each pixel: 0 is good, 255 does not count."""
    orientation: int
    """As in Picture."""
    note: str
    """What was changed to get there; mostly empty."""
    black_white: bool = False
    """Whether white, or another value that is not the number of a class, marks what is 1 here."""


def read_mask(data: bytes, numbered: bool = False) -> Mask:
    """The numbers of classes in a mask's file, and what had to be done to read them.

    A two-valued file may hold 0 and 1, 0 and 255 or, with 16 bits, 0 and 65535; what is marked is 1. A file
    with numbers of classes holds 0 to MOST_CLASSES, and 255 where nothing counts. Where it is not known to be
    `numbered`, 0 and 255 alone are taken for two values. Of a palette the colours count or, where they are
    not black and white, the indices. Edges that an editor or JPEG smoothed are thresholded: values between
    black and white only within EDGE_PX of an edge, and elsewhere none that is further than RINGING from 0
    or 255. Raises UnreadableImage for anything else.
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
    if not numbered:
        for values in (shades, np.asarray(picture)) if picture.mode == "P" else (shades,):
            if _two_valued(values):
                return Mask((values > 0).astype(np.uint8), orientation, "", bool(values.max(initial=0) > 1))
    values = np.asarray(picture) if picture.mode == "P" else shades
    if _are_numbers(values):
        return Mask(values.astype(np.uint8), orientation, "")
    if (grey := _eight_bits(shades)) is not None and (smoothed := _threshold(grey)) is not None:
        between = np.count_nonzero((grey > 0) & (grey < 255))
        note = f"Smoothed: {between} px between black and white were split at half."
        return Mask(smoothed, orientation, note, black_white=True)
    found = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in found)
    raise UnreadableImage(
        "The mask holds neither two values nor numbers of classes.",
        got=listed if len(found) <= 5 else f"{len(found)} values from {found[0]:g} to {found[-1]:g}",
        fix="Export it with 0 for good and 255 for defect, or the number of its class, as PNG or BMP, "
        "without smoothing.",
    )


def decode_mask(data: bytes, numbered: bool = False) -> NDArray[np.uint8]:
    """The mask that `read_mask` reads, uint8 (H, W). Raises UnreadableImage."""
    return read_mask(data, numbered).pixels


def _are_numbers(values: NDArray[np.generic]) -> bool:
    whole = np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.floor(values))
    return bool(whole and np.all((values == IGNORE) | ((values >= 0) & (values <= MOST_CLASSES))))


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
