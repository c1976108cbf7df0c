"""From a file's bytes to Pillow's picture: loaded, upright, and only where its pixels are right."""

import io
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from defectline.components.common.images import jpeg, png, tiff
from defectline.components.common.images.unreadable import (
    NO_PICTURE,
    UnreadableImage,
    unidentified,
    unread,
)

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files of FORMATS begin, but for WebP."""
MULTI_PICTURE = "MPO"
"""Pillow's name of a JPEG that other pictures follow: a depth map, a second lens, a preview."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright."""

# Pillow would only warn of what MAX_PIXELS refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class Opened(NamedTuple):
    """A picture, loaded and upright."""

    picture: Image.Image
    """Of 16 bits in colour the upper eight."""
    orientation: int
    """How the file says that the camera was held, as EXIF counts: 1 (upright, or not said) to 8."""
    bits: int
    """Of a channel in the file."""
    lossy: bool
    """Whether its compression changes values."""
    data: bytes
    """The file, without what is not its picture."""


def open_header(data: bytes) -> Image.Image:
    """The picture by its header; no pixels are decoded. Raises what Pillow raises, which may be anything."""
    return _open(png.bare(data))


def format_of(data: bytes) -> str:
    """The file's format by its header, one of FORMATS."""
    with open_header(data) as picture:
        return "JPEG" if picture.format == MULTI_PICTURE else picture.format or ""


def open_picture(data: bytes) -> Opened:
    """Raises UnreadableImage."""
    try:
        data = png.bare(data)
        picture: Image.Image = _open(data)
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(f"{picture.width}×{picture.height}")
        if (count := _count(picture)) > 1:
            raise UnreadableImage(
                "The file holds more than one picture.",
                got=f"{count} frames or pages",
                fix="Save one file a picture.",
            )
        # Before it is loaded, which turns some formats and forgets their tags.
        bits, lossy, inverted = _kind(picture, data)
        orientation = _load(picture, data)
        if inverted:
            picture = Image.fromarray(np.invert(np.asarray(picture).astype(np.uint16)))
        return Opened(picture, orientation, bits, lossy, data)
    except (UnreadableImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).split(",")[0]) from error
    except UnidentifiedImageError as error:
        problem = _unusual(data) or unidentified(data)
        raise problem from (error if problem.what == NO_PICTURE else None)
    except Exception as error:
        if str(error).startswith("Unsupported BMP"):
            raise unread("The picture is a BMP of a kind that is not read.", str(error)) from None
        # Damage makes Pillow's decoders raise OSError, SyntaxError, TypeError and almost anything else.
        raise UnreadableImage(
            "The picture is damaged.", got=str(error) or type(error).__name__, fix="Copy the file again."
        ) from error


def sixteen_bits(opened: Opened) -> NDArray[np.uint16]:
    """All bits of a picture in colour whose channels have 16, (H, W, bands of its mode).

    The lower eight are 0 where Pillow cannot unpack them: colours times alpha.
    """
    upper = np.left_shift(np.asarray(opened.picture), 8, dtype=np.uint16)
    again = _open(opened.data)
    tile, rawmode = again.tile[0], again.tile[0].args
    # Of PNG a name, of TIFF the first of three arguments.
    name, *rest = rawmode if isinstance(rawmode, tuple) else (rawmode,)
    if name == "LA;16B":
        halves = _open(png.in_halves(opened.data))
        _load(halves, opened.data)
        return np.asarray(halves).view(">u2")[..., [0, 0, 0, 1]].astype(np.uint16)
    # PNG is big-endian, and libtiff gives the processor's order, so the other order takes the lower byte.
    other = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"} | {
        f"{mode};16N": f"{mode};16B" for mode in ("RGB", "RGBA", "RGBX", "CMYK")
    }
    if name not in other:
        return upper
    args = (other[name], *rest) if rest else other[name]
    again.tile = [tile._replace(args=args)]
    _load(again, opened.data)
    return np.bitwise_or(upper, np.asarray(again), dtype=np.uint16)


def _open(data: bytes) -> ImageFile:
    opened = Image.open(io.BytesIO(data), formats=FORMATS)
    assert isinstance(opened, ImageFile)
    return opened


def _count(picture: Image.Image) -> int:
    """How many pictures the file holds, what belongs to the first left out."""
    if isinstance(picture, TiffImageFile):
        return tiff.pages(picture)
    return 1 if picture.format == MULTI_PICTURE else getattr(picture, "n_frames", 1)


def _kind(picture: Image.Image, data: bytes) -> tuple[int, bool, bool]:
    """Bits a channel, whether values were changed by compression, and whether 0 is white."""
    if isinstance(picture, TiffImageFile):
        tiff.check_tags(picture)
        return tiff.bits(picture), tiff.is_lossy(picture), tiff.is_inverted(picture)
    if picture.format == "PNG":
        return png.bits(data), False, False
    lossless = picture.format == "BMP" or (picture.format == "WEBP" and b"VP8L" in data[:64])
    return 8, not lossless, False


def _load(picture: Image.Image, data: bytes) -> int:
    """Decode the picture and turn it upright; its orientation."""
    # What a program for photographs writes into XMP is heeded by no other decoder, nor by browsers.
    for name in ("xmp", "XML:com.adobe.xmp"):
        picture.info.pop(name, None)
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # Broken EXIF data make Pillow raise almost anything, and say nothing of the pixels.
        orientation = None
    picture.load()
    if picture.format in ("JPEG", MULTI_PICTURE) and not jpeg.is_whole(data, picture):
        raise UnreadableImage(
            "The picture is damaged.", got="a JPEG with data for a part of it", fix="Copy the file again."
        )
    if picture.mode == "P" and picture.palette is None:
        raise UnreadableImage("The picture is damaged.", got="no palette", fix="Copy the file again.")
    turn = next((number for number in range(1, 9) if number == orientation), 1)
    # Pillow turns TIFF while it is loaded.
    if turn in TURNS and not isinstance(picture, TiffImageFile):
        picture.im = picture.im.transpose(TURNS[turn])
        picture._size = picture.im.size
    return turn


def _unusual(data: bytes) -> UnreadableImage | None:
    """What is unusual in a file of one of FORMATS; None for any other."""
    if data.startswith(b"\xff\xd8\xff") and (frame := jpeg.read_frame(data)):
        unusual = " ".join(filter(None, (frame.process, f"{frame.bits}-bit" if frame.bits != 8 else "")))
        if unusual:
            return unread(
                f"The picture is a JPEG of a kind that is not read: {unusual}.",
                f"{frame.bits} bits a channel, {len(frame.components)} channels",
                "Save it as JPEG of 8 bits, or as PNG of 16 bits that uses the whole range.",
            )
    if data[:4] in SIGNATURES[3:] and (problem := tiff.unreadable_tags(data)):
        return problem
    return None


def _too_large(got: str) -> UnreadableImage:
    return UnreadableImage(
        "The picture is too large.",
        got=got,
        fix=f"Cut it into parts of at most {MAX_PIXELS // 1_000_000} megapixels.",
    )
