"""Pictures as the contact sheet shows them: defects outlined, and what does not count hatched or dimmed."""

from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE
from defectline.components.common.images.colours import colour_of
from defectline.components.common.images.drawing import dim_outside, outline, picture_uri

WIDTH_PX = 320
"""Small pictures are shown about this wide, large ones at most so."""
QUALITY = 80
"""Of WebP. Enough to see a scratch, and a page of a megabyte or two."""
LINE_PX = 2
"""Lossy pictures have colours at half their resolution, which a line of one pixel would not survive."""
COLOUR = (46, 204, 113)
"""Of outlines where there is one class."""
HATCH_PX = 8


def figure(
    picture: NDArray[np.uint8] | None,
    truth: NDArray[np.uint8] | None,
    roi: NDArray[np.uint8] | None,
    name: str,
    several: bool,
) -> str:
    """The picture, uint8 RGB (H, W, 3), as HTML; None for one that cannot be shown.

    `truth`, (H, W), holds numbers of classes, of which there may be `several`; `roi`, of any size, is 0 where
    nothing counts. Each may be None, and a `truth` of another size is not drawn.
    """
    if picture is None:
        return '<div class="none">no picture</div>'
    height, width = picture.shape[:2]
    shown = at_page_size(picture)
    size = shown.shape[1], shown.shape[0]
    if roi is not None:
        shown = dim_outside(shown, roi, LINE_PX)
    if truth is not None and truth.shape == (height, width):
        if np.any(truth == IGNORE):
            shown = _hatched(shown, np.asarray(cv2.resize((truth == IGNORE).astype(np.uint8), size)))
        for number in np.unique(truth[(truth > 0) & (truth < IGNORE)]).tolist():
            shown = outline(shown, (truth == number).astype(np.uint8), colour(number, several), LINE_PX)
    return f'<img src="{picture_uri(shown, QUALITY)}" alt="{escape(name)}">'


def at_page_size(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, uint8 (H, W, C), shrunken to about WIDTH_PX or magnified by a whole number."""
    height, width = picture.shape[:2]
    scale = max(1, WIDTH_PX // width) if width <= WIDTH_PX else WIDTH_PX / width
    # A line scan may be a thousand times as long as wide: each side keeps a pixel at least.
    size = max(1, round(width * scale)), max(1, min(round(height * scale), 4 * WIDTH_PX))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)


def coloured(truth: NDArray[np.uint8], several: bool) -> NDArray[np.uint8]:
    """A mask (H, W) as a picture (H, W, 3): white where there is one class, else in the classes' colours."""
    colours = np.zeros((256, 3), np.uint8)
    colours[1:IGNORE] = [colour_of(n) if several else (255, 255, 255) for n in range(1, IGNORE)]
    colours[IGNORE] = 110
    return colours[truth]


def colour(number: int, several: bool) -> tuple[int, int, int]:
    """Of the outlines of a class."""
    return colour_of(number) if several else COLOUR


def _hatched(picture: NDArray[np.uint8], where: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with black and white lines over what does not count."""
    y, x = np.indices(where.shape)
    phase = np.where(where > 0, (x + y) % HATCH_PX, HATCH_PX)
    lined = picture.copy()
    lined[phase < LINE_PX] = 255
    lined[(phase >= LINE_PX) & (phase < 2 * LINE_PX)] = 0
    return lined
