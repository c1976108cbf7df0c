"""The one image path: pixels → enhance → resize → the array that the network takes.

Preprocess, evaluate and serve all come through here, and the settings travel in the bundle, so the
network meets on the line what it met in training. Scaling to [-1, 1] is the network's first layer.
"""

from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from defectline.components.common.classes import GOOD, IGNORE, defect_mask
from defectline.components.common.images.reading import MAX_PIXELS, UnreadableImage
from defectline.components.common.images.tiling import Grid, tile_grid

CLAHE_TILE_PX = 28
"""Side of a tile of the contrast equalisation: the grid grows with the image, the tile does not."""
MAX_TILE_PIXELS = 3 * MAX_PIXELS
"""In all tiles of a frame. Overlap nearly doubles the pixels of a frame; only long, narrow ones need more."""
MASK_COVER = 0.25
"""A pixel of a shrunken mask is a defect when this share of it was: thin scratches survive."""


def _as_number(channels: object) -> object:
    """Pydantic converts a text for an int, but not for one of several numbers."""
    return int(channels) if isinstance(channels, str) and channels.isdecimal() else channels


class ImagingSettings(BaseModel):
    """How a picture becomes the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(
        default=224, ge=32, le=2048, multiple_of=32, description="Side of the network's input, in pixels."
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(_as_number)] = Field(
        default=1, description="1 for grey images, 3 for colour."
    )
    enhance: bool = Field(default=False, description="Bring out weak contrast before the network sees it.")
    tile: bool = Field(
        default=False,
        description="Cut frames into overlapping tiles of full resolution, instead of resizing them.",
    )
    resize: Literal["stretch", "fit"] = Field(
        default="stretch",
        description="Without `tile`: stretch images to the network's square, or fit them in as they are.",
    )


def enhance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Even out light and contrast (CLAHE), then widen bright points by one pixel (3×3 dilation).

    `image` is uint8 (H, W, 1 or 3); so is the answer. Of colours only the lightness is equalised.
    """
    height, width, channels = image.shape
    grid = (max(1, round(width / CLAHE_TILE_PX)), max(1, round(height / CLAHE_TILE_PX)))
    clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=grid)
    if channels == 1:
        out = clahe.apply(image[..., 0])
    else:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = clahe.apply(lab[..., 0])
        out = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(cv2.dilate(out, np.ones((3, 3), np.uint8)), np.uint8).reshape(image.shape)


def prepare_frame(image: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """A decoded picture (H, W, channels) as tiles are cut from it: enhanced or not, at its own size."""
    return enhance(image) if settings.enhance else image


class Window(NamedTuple):
    """Where an image lies in the network's input."""

    top: int
    left: int
    height: int
    width: int


def find_window(height: int, width: int, settings: ImagingSettings) -> Window:
    """All of the input where images are stretched; else what their aspect lets them fill of its middle."""
    size = settings.image_size
    if settings.resize == "stretch":
        return Window(0, 0, size, size)
    inner_height, inner_width = (max(1, round(side * size / max(height, width))) for side in (height, width))
    return Window((size - inner_height) // 2, (size - inner_width) // 2, inner_height, inner_width)


def prepare_image(image: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """What the network takes of a decoded picture without tiles: uint8 (image_size, image_size, channels)."""
    image = prepare_frame(image, settings)
    size, window = settings.image_size, find_window(image.shape[0], image.shape[1], settings)
    sides = (window.width, window.height)
    grown = cv2.resize(_shrink(image, window), sides, interpolation=cv2.INTER_LINEAR)
    # A mirrored picture has no edge that looks like a scratch.
    padded = cv2.copyMakeBorder(grown, *_margins(window, size), cv2.BORDER_REFLECT_101)
    return np.asarray(padded, np.uint8).reshape(size, size, settings.channels)


def _margins(window: Window, size: int) -> tuple[int, int, int, int]:
    """What is left of the input above, below, left and right."""
    top, left, height, width = window
    return top, size - height - top, left, size - width - left


def prepare_mask(mask: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """The numbers of classes (H, W) at the network's size: uint8 (image_size, image_size).

    However small, a class never vanishes: its best covered pixels stay. Of several classes in a pixel the one
    that covers most of it counts. What does not count covers good surface, never a defect. What no pixel of
    the picture fills does not count.
    """
    window = find_window(mask.shape[0], mask.shape[1], settings)
    shrunk = mask
    if mask.shape[0] > window.height or mask.shape[1] > window.width:
        shrunk = _shrink_mask(mask, window)
    grown = cv2.resize(shrunk, (window.width, window.height), interpolation=cv2.INTER_NEAREST)
    margins = _margins(window, settings.image_size)
    return np.asarray(cv2.copyMakeBorder(grown, *margins, cv2.BORDER_CONSTANT, value=IGNORE), np.uint8)


def _shrink_mask(mask: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    counts = np.bincount(mask.ravel(), minlength=256)
    classes = sorted(
        (int(n) for n in np.flatnonzero(counts) if n not in (GOOD, IGNORE)), key=lambda n: -counts[n]
    )
    cover = _shrink(defect_mask(mask).astype(np.float32), window)
    defects = (cover > 0) & (cover >= min(MASK_COVER, cover.max()))
    shrunk = np.zeros(cover.shape, np.uint8)
    if counts[IGNORE]:
        shrunk[_shrink((mask == IGNORE).astype(np.float32), window) >= MASK_COVER] = IGNORE
    if len(classes) == 1:
        shrunk[defects] = classes[0]
        return shrunk
    shrunk[defects] = GOOD
    most = np.zeros(cover.shape, np.float32)
    covers = {number: _shrink((mask == number).astype(np.float32), window) for number in classes}
    for number, own in covers.items():
        here = defects & (own > most)
        shrunk[here], most[here] = number, own[here]
    # The rarest come last, so that none takes their only pixel.
    for number, own in covers.items():
        if not np.any(shrunk == number):
            shrunk[own == own.max()] = number
    return shrunk


def _shrink(pixels: NDArray[Any], window: Window) -> NDArray[Any]:
    """Bring sides that are longer than the window's down to them, each new pixel the mean of what it covers.

    Apart from growing, because OpenCV averages only where both sides shrink and else skips pixels.
    """
    height, width = pixels.shape[:2]
    return cv2.resize(
        pixels, (min(width, window.width), min(height, window.height)), interpolation=cv2.INTER_AREA
    )


def frame_grid(height: int, width: int, settings: ImagingSettings) -> Grid:
    """Where the tiles of a frame lie. Raises UnreadableImage where they would need too much memory."""
    size = settings.image_size
    grid = tile_grid(height, width, size)
    if len(grid.ys) * len(grid.xs) * size**2 > MAX_TILE_PIXELS:
        raise UnreadableImage(
            "The picture is too long and narrow to be cut into tiles.",
            got=f"{width}×{height}, which needs {len(grid.ys) * len(grid.xs):,} tiles of {size}×{size}",
            fix="Cut it into shorter parts, or choose a smaller image_size.",
        )
    return grid
