"""From a file's bytes to the pixels of a picture."""

import io
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from defectline.components.common.errors import SourceError

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's names of the 8-bit pictures that can be read, in addition to the 16-bit greys, I and I;16."""
NARROW = 16
"""Of 256 grey levels: a 16-bit picture that stays below holds the numbers of a camera of 12 bits or fewer."""


# Pillow would only warn of what MAX_PIXELS refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class UnreadableImage(SourceError):
    """The bytes are not a picture that can be used; `what` says why, in words for the quarantine table."""

    def __init__(self, what: str, *, got: str, fix: str):
        super().__init__(what, got=got, expected="one still picture (PNG, JPEG, BMP, TIFF or WebP)", fix=fix)


class Picture(NamedTuple):
    """A picture as it was read."""

    pixels: NDArray[np.uint8]
    """(H, W, channels), upright."""
    orientation: int
    """How the file says that the camera was held, as EXIF counts: 1 (upright, or not said) to 8."""


def decode_image(data: bytes, channels: int = 1) -> NDArray[np.uint8]:
    """The pixels that `read_image` reads, uint8 (H, W, channels). Raises UnreadableImage."""
    return read_image(data, channels).pixels


def read_image(data: bytes, channels: int = 1) -> Picture:
    """A picture, turned upright by its EXIF orientation, and what that was.

    Sixteen-bit greys keep their upper eight bits, and must use more than the lowest twelve; palettes are
    looked up; alpha is dropped. Raises UnreadableImage.
    """
    picture, orientation = open_picture(data)
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(
                "The picture's values are out of range.",
                got=f"values from {values.min()} to {values.max()}",
                fix="Export it with 8 or 16 bits a channel.",
            )
        grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
        if grey.max() < NARROW:
            raise UnreadableImage(
                "The picture is black: of 16 bits a channel it uses the lowest 12 at most.",
                got=f"no value above {values.max()}",
                fix="Scale pictures of 10 or 12 bits to 16 when they are exported, or save 8.",
            )
        return Picture(np.repeat(grey[..., None], channels, axis=2), orientation)
    if picture.mode not in MODES:
        raise UnreadableImage(
            "The picture's kind of pixels cannot be used.",
            got=f"mode {picture.mode}",
            fix="Export it as grey or RGB, with 8 or 16 bits a channel.",
        )
    mode = "L" if channels == 1 else "RGB"
    # Converting copies, even where there is nothing to convert.
    pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return Picture(pixels.reshape(*pixels.shape[:2], channels), orientation)


def open_picture(data: bytes) -> tuple[Image.Image, int]:
    """The picture, loaded and upright, and its EXIF orientation."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
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
        # Before it is loaded: some formats are turned while they are.
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture, next((number for number in range(1, 9) if number == orientation), 1)
    except (UnreadableImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(
            "The picture is too large.",
            got=str(error).split(",")[0],
            fix=f"Cut it into parts of at most {MAX_PIXELS // 1_000_000} megapixels.",
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            "The file is not a picture of a format that can be read.",
            got=f"{len(data)} bytes that start with {data[:8]!r}" if data else "0 bytes",
            fix="Remove the file, or save it as PNG.",
        ) from error
    except Exception as error:
        # Damage makes Pillow's decoders raise OSError, SyntaxError, TypeError and almost anything else.
        raise UnreadableImage(
            "The picture is damaged.", got=str(error) or type(error).__name__, fix="Copy the file again."
        ) from error
