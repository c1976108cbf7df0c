"""The one image path: bytes → decode → enhance → resize → the array that the network takes.

Preprocess, evaluate and serve all come through here, and the settings travel in the bundle, so the
network meets on the line what it met in training. Scaling to [-1, 1] is the network's first layer.
"""

import io
import warnings
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from defectline.components.common.errors import SourceError
from defectline.components.common.images.tiling import Grid, tile_grid

CLAHE_TILE_PX = 28
"""Side of a tile of the contrast equalisation: the grid grows with the image, the tile does not."""
MAX_PIXELS = 50_000_000
MAX_TILE_PIXELS = 3 * MAX_PIXELS
"""In all tiles of a frame. Overlap nearly doubles the pixels of a frame; only long, narrow ones need more."""
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's names of the 8-bit pictures that can be read, in addition to the 16-bit greys, I and I;16."""
NARROW = 16
"""Of 256 grey levels: a 16-bit picture that stays below holds the numbers of a camera of 12 bits or fewer."""
RINGING = 40
"""How far from 0 and 255 a smoothed mask may be anywhere: JPEG of quality 75 strays up to 37."""
EDGE_PX = 2
"""How far from an edge of its threshold a smoothed mask may hold any value."""
MASK_COVER = 0.25
"""A pixel of a shrunken mask is a defect when this share of it was: thin scratches survive."""

# Pillow would only warn of what MAX_PIXELS refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


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
    picture, orientation = _open(data)
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
    picture, orientation = _open(data)
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


def _open(data: bytes) -> tuple[Image.Image, int]:
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


def prepare_image(image: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """What the network takes of a decoded picture without tiles: uint8 (image_size, image_size, channels)."""
    image = prepare_frame(image, settings)
    size = settings.image_size
    grown = cv2.resize(_shrink(image, size), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.uint8).reshape(size, size, settings.channels)


def prepare_mask(mask: NDArray[np.uint8], settings: ImagingSettings) -> NDArray[np.uint8]:
    """A mask (H, W) of 0 and 1 at the network's size: uint8 (image_size, image_size).

    However small, a defect never vanishes: its best covered pixels stay.
    """
    size = settings.image_size
    shrunk = mask
    if max(mask.shape) > size:
        cover = _shrink(mask.astype(np.float32), size)
        shrunk = ((cover > 0) & (cover >= min(MASK_COVER, cover.max()))).astype(np.uint8)
    return np.asarray(cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_NEAREST), np.uint8)


def _shrink(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Bring the sides that are longer than `size` down to it, each new pixel the mean of what it covers.

    Apart from growing, because OpenCV averages only where both sides shrink and else skips pixels.
    """
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)


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


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """A mask (H, W) of 0 and 1 as a 1-bit PNG."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(out, "PNG")
    return out.getvalue()
