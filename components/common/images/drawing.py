"""Pictures inside HTML pages, with their defects outlined."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

LOSSLESS = 101
"""As OpenCV counts the quality of WebP."""
DIMMED = 0.4
"""How bright a picture is where it does not count."""
EDGE = (230, 230, 230)
"""Of the line around what counts: in a dark picture it alone tells, in a light one the dimming."""


def outline(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, int, int], line_px: int = 1
) -> NDArray[np.uint8]:
    """A copy of `image`, uint8 RGB (H, W, 3), with the regions of `mask`, of any size, outlined."""
    height, width = image.shape[:2]
    return cv2.drawContours(image.copy(), contours(mask, width, height, margin_px=2), -1, colour, line_px)


def dim_outside(image: NDArray[np.uint8], roi: NDArray[np.uint8], line_px: int = 1) -> NDArray[np.uint8]:
    """A copy of `image`, uint8 RGB (H, W, 3), dark where `roi`, of any size, is 0, and a line at its edge."""
    height, width = image.shape[:2]
    inside = cv2.resize(roi, (width, height), interpolation=cv2.INTER_NEAREST)
    side = 2 * line_px + 1
    near = cv2.dilate(1 - inside, np.ones((side, side), np.uint8))
    dimmed = np.where(inside[..., None] > 0, image, (image * DIMMED).astype(np.uint8))
    dimmed[(inside > 0) & (near > 0)] = EDGE
    return dimmed


def contours(mask: NDArray[np.uint8], width: int, height: int, margin_px: int) -> Sequence[NDArray[np.int32]]:
    """Lines around the regions of `mask`, of any size, in a picture of width × height: (N, 1, 2) of x, y.

    They run `margin_px` outside of a defect, not over it.
    """
    # Any touch counts, so that thin defects do not vanish where the picture is shrunken.
    touched = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    side = 2 * margin_px + 1
    around = cv2.dilate(touched.astype(np.uint8), np.ones((side, side), np.uint8))
    return cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def picture_uri(image: NDArray[np.uint8], quality: int = LOSSLESS) -> str:
    """The picture, uint8 RGB (H, W, 3), as a data URI of WebP; `quality` 1 to 100 loses detail."""
    # Lossless WebP: a sixth of the PNG for a picture of light points.
    _, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data_uri(data.tobytes(), "webp")


def data_uri(picture: bytes, kind: str = "png") -> str:
    """The file of a picture as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()
