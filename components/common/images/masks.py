"""From a file's bytes to the numbers of classes in each pixel, and back."""

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.classes import DEFECT, GOOD, IGNORE, MOST_CLASSES
from defectline.components.common.images.opening import Opened, open_picture, sixteen_bits
from defectline.components.common.images.smoothing import split
from defectline.components.common.images.unreadable import UnreadableImage

COARSE = {2: 85, 4: 17}
"""Bits of a grey → by what Pillow multiplies its values."""
MANY = 8
"""So many values of few bits, or of a palette, may be levels of a smoothed edge; fewer are numbers."""
STRAY = 3
"""How far a smoothed colour may be from the line between black and the colour itself."""


BLACK, WHITE = (0, 0, 0), (255, 255, 255)


class Mask(NamedTuple):
    """A mask as it was read."""

    pixels: NDArray[np.uint8]
    """(H, W), the number of a class in each pixel: 0 is good, 255 does not count."""
    orientation: int
    """As in Picture."""
    note: str
    """What was changed to get there; mostly empty."""
    black_white: bool = False
    """Whether white, or another value that is not the number of a class, marks what is 1 here."""


class _Read(NamedTuple):
    pixels: NDArray[np.uint8]
    note: str = ""
    black_white: bool = True


def read_mask(data: bytes, numbered: bool = False) -> Mask:
    """The numbers of classes in a mask's file, and what had to be done to read them.

    A two-valued file may hold 0 and 1, 0 and 255 or, with 16 bits, 0 and 65535; what is marked is 1. A file
    with numbers of classes holds 0 to MOST_CLASSES, and 255 where nothing counts. Where it is not known to be
    `numbered`, 0 and 255 alone are taken for two values. Of two colours, in a palette or not, black is good
    and the other one marked; the indices of a palette in which black is 0 are numbers. Smoothed edges are
    split at half, as `split` says, but not of a `numbered` file. Raises UnreadableImage for all else.
    """
    opened = open_picture(data)
    _check_opaque(opened.picture)
    if numbered and opened.lossy:
        raise UnreadableImage(
            "The mask holds numbers of classes and is compressed with losses.",
            got=f"a {opened.picture.format or 'JPEG'} whose values are not what was drawn",
            fix="Export it as PNG.",
        )
    if opened.picture.mode in ("P", "PA"):
        read = _read_palette(opened, numbered)
    else:
        values = _values(opened)
        if values.ndim == 3 and np.all(values == values[..., :1]):
            values = values[..., 0]
        read = (_read_colours if values.ndim == 3 else _read_grey)(values, opened, numbered)
    return Mask(read.pixels, opened.orientation, read.note, read.black_white)


def decode_mask(data: bytes, numbered: bool = False) -> NDArray[np.uint8]:
    """The mask that `read_mask` reads, uint8 (H, W). Raises UnreadableImage."""
    return read_mask(data, numbered).pixels


def _check_opaque(picture: Image.Image) -> None:
    if not picture.has_transparency_data:
        return
    if picture.mode.startswith("I"):
        # One value of 16 bits is the transparent one.
        opaque = not np.any(np.asarray(picture) == picture.info["transparency"])
    else:
        opaque = np.asarray(picture.convert("RGBA"))[..., 3].min() == 255
    if not opaque:
        raise UnreadableImage(
            "The mask is transparent in places.",
            got="an alpha channel that is not 255 everywhere",
            fix="Export it without transparency, black for good and white for defect.",
        )


def _values(opened: Opened) -> NDArray[Any]:
    """(H, W) of a grey picture, (H, W, 3) of one in colour, with all bits of the file."""
    picture = opened.picture
    if picture.mode == "LA":
        return np.asarray(picture)[..., 0]
    if len(picture.getbands()) == 1:
        return np.asarray(picture)
    if opened.bits == 16 and picture.mode in ("RGB", "RGBA", "RGBX"):
        return sixteen_bits(opened)[..., :3]
    return np.asarray(picture.convert("RGB"))


def _read_grey(values: NDArray[Any], opened: Opened, numbered: bool) -> _Read:
    if not numbered and _two_valued(values):
        return _Read(_marked(values > 0), black_white=bool(values.max(initial=0) > 1))
    numbers = values // step if (step := COARSE.get(opened.bits)) else values
    # In a lossy file, or among few levels, small numbers may be what smoothing left.
    doubtful = opened.lossy or (step is not None and len(np.unique(numbers)) >= MANY)
    grey = _eight_bits(values) if doubtful or not _are_numbers(numbers) else None
    if not numbered and grey is not None and (truth := split(grey, opened.lossy)) is not None:
        return _Read(truth, _smoothed(grey))
    if opened.lossy:
        raise _neither(values)
    return _as_numbers(numbers)


def _read_palette(opened: Opened, numbered: bool) -> _Read:
    indices = np.asarray(opened.picture)
    indices = indices[..., 0] if indices.ndim == 3 else indices
    palette = _palette(opened.picture)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256)).tolist()
    colours = {index: tuple(palette[index].tolist()) for index in used}
    # Colours that do not tell the indices apart mean nothing.
    if numbered or len(set(colours.values())) < len(used) or used == [GOOD]:
        return _as_numbers(indices)
    black = next((index for index, colour in colours.items() if colour == BLACK), None)
    if len(used) == 1:
        if black is not None or colours[used[0]] == WHITE:
            return _Read(_marked(indices != black), black_white=black is None)
        return _as_numbers(indices, two=True)
    if len(used) == 2:
        if black is None and GOOD in used:
            raise _no_black(colours.values())
        if black == GOOD and colours[used[1]] != WHITE and (used[1] <= MOST_CLASSES or used[1] == IGNORE):
            return _as_numbers(indices, two=True)
        if black is not None:
            return _Read(_marked(indices != black))
    if len(used) >= MANY:
        shades = _along_a_colour(palette[indices])
        if shades is not None and (truth := split(shades)) is not None:
            return _Read(truth, _smoothed(shades))
    if black:
        raise UnreadableImage(
            "The mask's palette has another colour than black for good.",
            got=f"{len(used)} colours, black with the index {black}",
            fix="Give black the index 0, and the classes 1, 2, …, or export it with black and white alone.",
        )
    return _as_numbers(indices)


def _read_colours(values: NDArray[Any], opened: Opened, numbered: bool) -> _Read:
    coloured: NDArray[np.bool_] = np.asarray(values.any(axis=2))
    colour = values[coloured][0]
    others = coloured & np.any(values != colour, axis=2)
    if not numbered and not others.any() and not coloured.all():
        return _Read(_marked(coloured))
    if not numbered and others.any():
        eight = (values >> 8 if values.dtype == np.uint16 else values).astype(np.uint8)
        shades = _along_a_colour(eight)
        if shades is not None and (truth := split(shades, opened.lossy)) is not None:
            return _Read(truth, _smoothed(shades))
    found = [tuple(row) for row in np.unique(values[others][:1000], axis=0).tolist()]
    found = [tuple(colour.tolist()), *found]
    if coloured.all() and len(found) <= 2:
        raise _no_black(found)
    raise UnreadableImage(
        "The mask holds several colours.",
        got=", ".join(map(str, found[:3])) + (" and others" if len(found) > 3 else ""),
        fix="Export the number of its class in each pixel, or black for good and one colour for defect, "
        "as PNG without smoothing.",
    )


def _as_numbers(values: NDArray[Any], two: bool = False) -> _Read:
    """Numbers of classes; of `two` values, 1 or 255 is a mark. Raises UnreadableImage."""
    if two and _two_valued(values):
        return _Read(_marked(values > 0), black_white=bool(values.max(initial=0) > 1))
    if not _are_numbers(values):
        raise _neither(values)
    return _Read(values.astype(np.uint8), black_white=False)


def _marked(where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return where.astype(np.uint8) * np.uint8(DEFECT)


def _smoothed(grey: NDArray[np.uint8]) -> str:
    between = np.count_nonzero((grey > 0) & (grey < 255))
    return f"Smoothed: {between} px between black and white were split at half."


def _neither(values: NDArray[Any]) -> UnreadableImage:
    found = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in found)
    return UnreadableImage(
        "The mask holds neither two values nor numbers of classes.",
        got=listed if len(found) <= 5 else f"{len(found)} values from {found[0]:g} to {found[-1]:g}",
        fix="Export it with 0 for good and 255 for defect, or the number of its class, as PNG or BMP, "
        "without smoothing.",
    )


def _no_black(colours: Iterable[tuple[int, ...]]) -> UnreadableImage:
    return UnreadableImage(
        "The mask does not say which colour is good: none is black.",
        got=", ".join(map(str, colours)),
        fix="Export it with black for good, and white or a colour for defect.",
    )


def _palette(picture: Image.Image) -> NDArray[np.uint8]:
    """uint8 (256, 3): the colour of each index."""
    every = Image.fromarray(np.arange(256, dtype=np.uint8)[None], "L").copy()
    every.putpalette(picture.getpalette("RGB") or [])
    return np.asarray(every.convert("RGB"))[0]


def _along_a_colour(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Of colours (H, W, 3) between black and one other: how much of that is in each pixel, 0 to 255."""
    most = colours.max(axis=2)
    brightest = int(most.max())
    if brightest <= STRAY:
        return None
    full = colours[most == brightest].astype(np.float32).mean(axis=0)
    expected = most[..., None] / np.float32(brightest) * full
    if np.abs(colours - expected).max() > STRAY:
        return None
    return np.round(most / np.float32(brightest) * 255).astype(np.uint8)


def _are_numbers(values: NDArray[Any]) -> bool:
    whole = np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.floor(values))
    return bool(whole and np.all((values == IGNORE) | ((values >= 0) & (values <= MOST_CLASSES))))


def _two_valued(values: NDArray[Any]) -> bool:
    top = values.max(initial=0)
    return bool(top in (0, 1, 255, 65535) and np.all((values == 0) | (values == top)))


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Greys of 8 or 16 bits as 8 bits; None for numbers that are not greys."""
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 65535:
        return None
    return (
        values.astype(np.uint8) if values.max() <= 255 else (values.astype(np.uint16) >> 8).astype(np.uint8)
    )


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """A mask (H, W) of 0 and 1 as a 1-bit PNG."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(out, "PNG")
    return out.getvalue()
