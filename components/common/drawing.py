"""Pictures inside HTML pages, with their defects outlined."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

LOSSLESS = 101
"""As OpenCV counts the quality of WebP."""
MARGIN = np.ones((5, 5), np.uint8)
"""Outlines run beside a defect, not over it."""


def outline(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, int, int], line_px: int = 1
) -> NDArray[np.uint8]:
    """A copy of `image`, uint8 RGB (H, W, 3), with the regions of `mask`, of any size, outlined."""
    height, width = image.shape[:2]
    # Any touch counts, so that thin defects do not vanish where the picture is shrunken.
    scaled = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    around = cv2.dilate(scaled.astype(np.uint8), MARGIN)
    contours, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, colour, line_px)


def picture_uri(image: NDArray[np.uint8], quality: int = LOSSLESS) -> str:
    """The picture, uint8 RGB (H, W, 3), as a data URI of WebP; `quality` 1 to 100 loses detail."""
    # Lossless WebP: a sixth of the PNG for a picture of light points.
    _, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data_uri(data.tobytes(), "webp")


def data_uri(picture: bytes, kind: str = "png") -> str:
    """The file of a picture as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()
