"""Masks come out of every usual file, and a doubtful one is refused."""

import re
from typing import Any

import cv2
import numpy as np
import pytest
from camera_files import chunk, png
from numpy.typing import NDArray
from pictures import encode, mask, noise, turned, with_palette
from PIL import Image

from defectline.components.common.images.masks import decode_mask, encode_mask, read_mask
from defectline.components.common.images.reading import UnreadableImage

GREY = noise(0)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]


def with_alpha(values: NDArray[Any], alpha: int = 65535, extra: bytes = b"") -> bytes:
    """A grey PNG of 16 bits with alpha."""
    return png(np.dstack([values, np.full(values.shape, alpha)]), 16, 4, extra)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(mask(True)), id="255"),
        pytest.param(encode(mask(True) // 255), id="1"),
        pytest.param(encode(mask(True) > 0), id="one-bit"),
        pytest.param(encode(mask(True), "BMP"), id="bmp"),
        pytest.param(encode((mask(True) // 255).astype(np.uint16)), id="sixteen-bit"),
        pytest.param(with_alpha(mask(True) // 255), id="sixteen-bit-alpha-1"),
        pytest.param(with_alpha(mask(True) * np.uint16(257)), id="sixteen-bit-alpha-65535"),
        pytest.param(encode((mask(True) / 255).astype(np.float32), "TIFF"), id="float"),
        pytest.param(encode(cv2.merge([mask(True)] * 3)), id="rgb"),
        pytest.param(encode(cv2.merge([mask(True)] * 3 + [np.full((16, 16), 255, np.uint8)])), id="opaque"),
        pytest.param(encode(with_palette(mask(True) // 255, [0, 0, 0, 128, 0, 0])), id="indices"),
        pytest.param(encode(with_palette(mask(True) // 255, [0, 0, 0, 255, 255, 255])), id="colours"),
        # White comes first in this palette: by index the mask would be inverted.
        pytest.param(encode(with_palette(1 - mask(True) // 255, [255, 255, 255, 0, 0, 0])), id="white-first"),
    ],
)
def test_a_mask_is_read_from_every_usual_file(data: bytes):
    found = decode_mask(data)
    assert found.dtype == np.uint8
    assert np.array_equal(found, mask(True) // 255)


def test_a_mask_may_be_empty_or_full():
    for value, found in ((0, 0), (1, 1), (255, 1)):
        assert (decode_mask(encode(np.full((4, 4), value, np.uint8))) == found).all()


def disc(size: int = 64, radius: int = 9, scale: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A sharp mask of 0 and 255, and the same with edges smoothed as a drawing program does it."""
    large = np.zeros((size * scale, size * scale), np.uint8)
    cv2.circle(large, (size * scale // 2, size * scale // 2), radius * scale, 255, -1)
    smooth = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
    return np.where(smooth >= 128, 255, 0).astype(np.uint8), smooth


SHARP, SMOOTH = disc()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(SMOOTH), id="anti-aliased"),
        pytest.param(encode(SMOOTH.astype(np.uint16) * 257), id="sixteen-bit"),
        pytest.param(encode(cv2.merge([SMOOTH] * 3)), id="rgb"),
        pytest.param(encode(with_palette(SMOOTH, [v for v in range(256) for _ in range(3)])), id="palette"),
        pytest.param(encode(cv2.GaussianBlur(SHARP, (3, 3), 0)), id="blurred"),
        *(pytest.param(encode(SHARP, "JPEG", quality=q), id=f"jpeg-{q}") for q in (75, 85, 95, 100)),
    ],
)
def test_a_smoothed_mask_is_split_at_half_and_noted(data: bytes):
    found = read_mask(data)
    assert np.array_equal(found.pixels, SHARP // 255)
    assert re.fullmatch(r"Smoothed: \d+ px between black and white were split at half\.", found.note)
    assert np.array_equal(decode_mask(data), found.pixels)


def test_an_exact_mask_has_no_note():
    for pixels in (SHARP, SHARP // 255, SHARP.astype(np.uint16) * 257):
        found = read_mask(encode(pixels))
        assert (found.note, found.pixels.tolist()) == ("", (SHARP // 255).tolist())


def doubtful(area: int, streak: int) -> NDArray[np.uint8]:
    """A mask with a white square, a wide area of one grey and a thin streak of another."""
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, 20:] = area
    pixels[8:14, 8:14] = 255
    pixels[24:30, 2:4] = streak
    return pixels


@pytest.mark.parametrize(
    ("data", "what", "got"),
    [
        pytest.param(encode(mask(True) // 2), "neither two values", "0, 127", id="grey"),
        pytest.param(encode(GREY), "neither two values", "values from 0 to", id="smooth"),
        pytest.param(encode(doubtful(40, 128)), "neither two values", "0, 40, 128, 255", id="grey-streak"),
        pytest.param(encode(doubtful(41, 255)), "neither two values", "0, 41, 255", id="grey-far-from-edges"),
        pytest.param(
            encode(mask(True), "JPEG", quality=5), "neither two values", "values from", id="coarse-jpeg"
        ),
        pytest.param(
            encode(mask(True).astype(np.uint16) << 7), "neither two values", "0, 32640", id="sixteen-bit-grey"
        ),
        pytest.param(
            encode((mask(True) / 510).astype(np.float32), "TIFF"), "neither two values", "0, 0.5", id="float"
        ),
        pytest.param(encode(cv2.merge([mask(True)] * 4)), "transparent", "alpha", id="transparent"),
        pytest.param(with_alpha(mask(True), 300), "transparent", "alpha", id="sixteen-bit-transparent"),
        pytest.param(encode(mask(True))[:-30], "damaged", "truncated", id="truncated"),
    ],
)
def test_an_ambiguous_mask_is_refused(data: bytes, what: str, got: str):
    with pytest.raises(UnreadableImage) as caught:
        decode_mask(data)
    assert what in caught.value.what
    assert got in caught.value.got


def test_numbers_of_classes_are_read_as_they_are():
    numbers = np.array([[0, 1, 2, 32, 255]], np.uint8)
    assert np.array_equal(decode_mask(encode(numbers)), numbers)
    palette = with_palette(np.array([[0, 1, 2]], np.uint8), [0, 0, 0, 9, 9, 9, 5, 5, 5])
    assert decode_mask(encode(palette)).tolist() == [[0, 1, 2]]
    exif = chunk(b"eXIf", turned(6).tobytes().removeprefix(b"Exif\0\0"))
    assert decode_mask(with_alpha(numbers, extra=exif)).tolist() == numbers.T.tolist()
    # 255 alone is a mark, unless the file is known to hold numbers.
    marked = encode(np.array([[0, 255]], np.uint8))
    assert decode_mask(marked).tolist() == [[0, 1]]
    assert decode_mask(marked, numbered=True).tolist() == [[0, 255]]


def test_an_encoded_mask_is_a_one_bit_png_that_reads_back():
    data = encode_mask(mask(True) // 255)
    assert data.startswith(b"\x89PNG")
    assert data[24] == 1  # bit depth
    assert np.array_equal(decode_mask(data), mask(True) // 255)


# Colours and palettes

RED, GREEN = (255, 0, 0), (0, 255, 0)
DEFECT = mask(True) // 255


def wide(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of 16 bits with the same values."""
    return cv2.imencode(".png", pixels.astype(np.uint16))[1].tobytes()


UNUSED = [*[0] * 21, 9, 9, 9, *[255, 0, 0] * 2]
"""A palette with an entry that no pixel has, besides black and red."""
BLACK_SECOND = [255, 0, 0, 0, 0, 0, 0, 255, 0]


def painted(colour: tuple[int, ...], background: tuple[int, ...] = (0, 0, 0)) -> NDArray[np.uint8]:
    """The usual mask in colours."""
    return np.where(DEFECT[..., None] > 0, np.uint8(colour), np.uint8(background)).astype(np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(Image.fromarray(painted(RED)).quantize(2)), id="quantised"),
        pytest.param(encode(with_palette(1 - DEFECT, [255, 0, 0, 0, 0, 0])), id="black-is-one"),
        pytest.param(encode(with_palette(DEFECT, [0, 0, 0, 255, 0, 0])), id="black-is-zero"),
        pytest.param(encode(with_palette(DEFECT * 7, UNUSED)), id="unused"),
        pytest.param(encode(painted(RED)), id="rgb"),
        pytest.param(encode(painted((3, 5, 9))), id="dark-rgb"),
        pytest.param(encode(painted(RED), "BMP"), id="rgb-bmp"),
        pytest.param(wide(painted(RED)), id="rgb-low-of-16"),
        pytest.param(wide(painted((1, 1, 1))), id="ones-of-16"),
    ],
)
def test_of_two_colours_black_is_good(data: bytes):
    numbers = read_mask(data).pixels
    assert np.array_equal(numbers > 0, DEFECT > 0)


def test_a_palette_tells_whether_its_mark_is_a_number():
    assert read_mask(encode(with_palette(DEFECT, [0, 0, 0, 255, 0, 0]))).black_white is False
    assert read_mask(encode(with_palette(1 - DEFECT, [255, 0, 0, 0, 0, 0]))).black_white is True
    assert read_mask(encode(painted(RED))).black_white is True
    # A class of which the picture has nothing but 2.
    two = encode(with_palette(DEFECT * 2, [0, 0, 0, 128, 0, 0, 0, 128, 0]))
    assert np.array_equal(decode_mask(two), DEFECT * 2)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(encode(painted(RED, (255, 255, 255))), "none is black", id="on-white"),
        pytest.param(
            encode(Image.fromarray(painted(RED, (9, 9, 9))).quantize(2)), "none is black", id="palette"
        ),
        pytest.param(encode(np.full((9, 9, 3), RED, np.uint8)), "none is black", id="all-red"),
        pytest.param(encode(np.vstack([painted(RED), painted(GREEN)])), "several colours", id="two-classes"),
        pytest.param(
            encode(with_palette(noise(1) % 3, BLACK_SECOND)),
            "another colour",
            id="black-is-one",
        ),
    ],
)
def test_colours_that_do_not_say_what_is_good_are_refused(data: bytes, what: str):
    with pytest.raises(UnreadableImage, match=what):
        decode_mask(data)


def test_smoothed_colours_are_split_too():
    red = cv2.merge([SMOOTH, SMOOTH // 3, SMOOTH * 0])
    for data in (encode(red), encode(Image.fromarray(red).quantize(200))):
        found = read_mask(data)
        assert np.array_equal(found.pixels, SHARP // 255)
        assert found.note.startswith("Smoothed")


def test_numbers_of_few_bits_are_not_taken_for_greys():
    for bits in (2, 4):
        numbers = noise(1) % 4
        assert np.array_equal(decode_mask(png(numbers, bits, 0)), numbers)
        marked = png(DEFECT * (2**bits - 1), bits, 0)
        assert np.array_equal(decode_mask(marked), DEFECT)
    assert np.array_equal(decode_mask(png(SMOOTH >> 4, 4, 0)), SMOOTH >> 7)


def test_numbers_are_refused_where_they_were_smoothed_or_compressed():
    for data in (encode(SMOOTH), encode(SHARP, "JPEG", quality=95), encode(painted(RED))):
        with pytest.raises(UnreadableImage):
            decode_mask(data, numbered=True)
    with pytest.raises(UnreadableImage, match="neither two values"):
        decode_mask(encode(cv2.resize(noise(1) % 4, (64, 64)), "JPEG", quality=95))


def test_a_transparent_value_of_sixteen_bits_is_refused():
    wide = encode(mask(True).astype(np.uint16) * 257)
    clear = wide[:33] + chunk(b"tRNS", b"\xff\xff") + wide[33:]
    with pytest.raises(UnreadableImage, match="transparent"):
        decode_mask(clear)
    unused = wide[:33] + chunk(b"tRNS", b"\x12\x34") + wide[33:]
    assert np.array_equal(decode_mask(unused), DEFECT)
