"""The colours of classes, and masks in them."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.images.masks import encode_mask

COLOURS = (
    *((231, 76, 60), (52, 152, 219), (241, 196, 15), (46, 204, 113), (200, 120, 230), (230, 126, 34)),
    *((26, 188, 186), (255, 150, 190), (160, 200, 60), (150, 160, 255), (205, 150, 110), (180, 190, 200)),
)
"""RGB of classes 1, 2, …, over and over; each as bright as grey 100 or more."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Of the class with this number, from 1 on."""
    return COLOURS[(number - 1) % len(COLOURS)]


def encode_numbers(mask: NDArray[np.uint8]) -> bytes:
    """A mask (H, W) as PNG of 8 bits, with the numbers of classes as greys."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def encode_classes(mask: NDArray[np.uint8], classes: Sequence[str]) -> bytes:
    """A mask (H, W) as PNG: of 1 bit for one class, else with the classes' numbers as indices of a palette
    that shows black for good and the colour of each class."""
    if len(classes) == 1:
        return encode_mask(mask)
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, *(part for n in range(1, 256) for part in colour_of(n))])
    out = io.BytesIO()
    picture.save(out, "PNG", bits=8)
    return out.getvalue()
