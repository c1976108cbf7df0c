"""The one image path: bytes → decode → enhance → resize → the array that the network takes.

Preprocess, evaluate and serve all come through here, and the settings travel in the bundle, so the
network meets on the line what it met in training. Scaling to [-1, 1] is the network's first layer.
"""

import io
import warnings
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from defectline.components.common.errors import SourceError

CLAHE_TILE_PX = 28
"""Side of a tile of the contrast equalisation: the grid grows with the image, the tile does not."""
MAX_PIXELS = 50_000_000
MASK_COVER = 0.25
"""A pixel of a shrunken mask is a defect when this share of it was: thin scratches survive."""


class ImagingSettings(BaseModel):
    """How a picture becomes the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=224, ge=32, le=2048, multiple_of=32)
    channels: Literal[1, 3] = 1
    """1 for grey, 3 for colour."""
    enhance: bool = False


class UnreadableImage(SourceError):
    """The bytes are no picture that can be used; `what` says why, in words for the quarantine table."""

    def __init__(self, what: str, *, got: str, fix: str):
        super().__init__(what, got=got, expected="one still picture (PNG, JPEG, BMP, TIFF or WebP)", fix=fix)


def decode_image(data: bytes, channels: int = 1) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W, channels), upright by its EXIF orientation.

    Sixteen-bit greys keep their upper eight bits; palettes are looked up; alpha is dropped.
    Raises UnreadableImage.
    """
    picture = _open(data)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535 or picture.mode == "F":
            raise UnreadableImage(
                "The picture's values are out of range.",
                got=f"mode {picture.mode}, {values.min()} to {values.max()}",
                fix="Export it with 8 or 16 bits a channel.",
            )
        grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], channels, axis=2)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """A two-valued mask as uint8 (H, W), 1 where the defect is.

    The file may hold 0 and 1, or 0 and 255. Raises UnreadableImage.
    """
    picture = _open(data)
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    values = np.asarray(picture if picture.mode in ("L", "P", "I;16", "I") else picture.convert("L"))
    if picture.mode == "P" and values.max(initial=0) > 1:
        values = np.asarray(picture.convert("L"))
    found = np.unique(values)
    if not (set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {0, 255}):
        raise UnreadableImage(
            "The mask is not two-valued.",
            got=f"{len(found)} values from {found[0]} to {found[-1]}",
            fix="Export it with 0 for good and 255 for defect, as PNG or BMP, without smoothing.",
        )
    return (values > 0).astype(np.uint8)


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
        if picture.width * picture.height > MAX_PIXELS:
            raise UnreadableImage(
                "The picture is too large.",
                got=f"{picture.width}×{picture.height}",
                fix=f"Cut it into parts of at most {MAX_PIXELS // 1_000_000} megapixels.",
            )
        if getattr(picture, "n_frames", 1) > 1:
            raise UnreadableImage(
                "The file holds more than one picture.",
                got=f"{getattr(picture, 'n_frames', 1)} frames or pages",
                fix="Save one file a picture.",
            )
        picture.load()
        return ImageOps.exif_transpose(picture)
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(
            "The picture is too large.",
            got=str(error).split(",")[0],
            fix=f"Cut it into parts of at most {MAX_PIXELS // 1_000_000} megapixels.",
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            "The file is not a picture.",
            got=f"{len(data)} bytes that start with {data[:8]!r}",
            fix="Remove the file, or save it again as PNG.",
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        # Pillow's decoders report damage through any of these.
        raise UnreadableImage(
            "The picture is damaged.", got=str(error) or type(error).__name__, fix="Copy the file again."
        ) from error


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
    return cv2.dilate(out, np.ones((3, 3), np.uint8)).reshape(image.shape)


def prepare_image(image: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """What the network takes of a decoded picture: uint8 (image_size, image_size, channels)."""
    if settings.enhance:
        image = enhance(image)
    size = settings.image_size
    if image.shape[:2] != (size, size):
        shrink = image.shape[0] * image.shape[1] > size * size
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return np.ascontiguousarray(image.reshape(size, size, settings.channels))


def prepare_mask(mask: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """A mask (H, W) of 0 and 1 at the network's size: uint8 (image_size, image_size)."""
    size = settings.image_size
    if mask.shape == (size, size):
        return mask
    if mask.shape[0] * mask.shape[1] > size * size:
        cover = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        return (cover >= MASK_COVER).astype(np.uint8)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """A mask (H, W) of 0 and 1 as a 1-bit PNG."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(out, "PNG")
    return out.getvalue()
