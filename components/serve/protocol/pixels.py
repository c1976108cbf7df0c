"""UINT8 tensors: the pixels of decoded pictures, for clients that have no encoder at hand."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.serve.protocol.errors import ApiError

CHANNELS = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
SHAPES = "[height, width, channels] or [pictures, height, width, channels] of 1, 3 (RGB) or 4 (RGBA) channels"


def pictures_of_pixels(shape: list[int], data: list[Any] | bytes) -> list[bytes]:
    """PNG without compression, so that pixels take the same way as files from there on. `data` are numbers
    from 0 to 255, nested or not, or bytes. Raises ApiError."""
    if len(shape) not in (3, 4) or shape[-1] not in CHANNELS or not math.prod(shape):
        raise ApiError("invalid_request", f"The shape of UINT8 is {shape[:6]}. Expected {SHAPES}.")
    try:
        values = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _numbers(data)
    except (ValueError, TypeError, OverflowError):
        raise ApiError("invalid_request", "The data of UINT8 are not numbers from 0 to 255.") from None
    if values.size != math.prod(shape):
        raise ApiError(
            "invalid_request", f"The shape is for {math.prod(shape)} values, the data has {values.size}."
        )
    return [_encode(picture) for picture in values.reshape((-1, *shape[-3:]))]


def _numbers(data: list[Any]) -> NDArray[np.uint8]:
    values = np.array(data)
    if (
        not np.issubdtype(values.dtype, np.integer)
        or values.min(initial=0) < 0
        or values.max(initial=0) > 255
    ):
        raise ValueError("not UINT8")
    return values.astype(np.uint8).ravel()


def _encode(picture: NDArray[np.uint8]) -> bytes:
    order = CHANNELS[picture.shape[-1]]
    pixels = picture if order is None else cv2.cvtColor(picture, order)
    _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return encoded.tobytes()
