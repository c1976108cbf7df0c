"""Masks come out of every usual file, and a doubtful one is refused."""

import re

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encode, mask, noise
from PIL import Image

from defectline.components.common.images.masks import decode_mask, encode_mask, read_mask
from defectline.components.common.images.reading import UnreadableImage

GREY = noise(0)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]


def with_palette(indices: NDArray[np.uint8], colours: list[int]) -> Image.Image:
    picture = Image.fromarray(indices, "L")
    picture.putpalette(colours)
    return picture


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(mask(True)), id="255"),
        pytest.param(encode(mask(True) // 255), id="1"),
        pytest.param(encode(mask(True) > 0), id="one-bit"),
        pytest.param(encode(mask(True), "BMP"), id="bmp"),
        pytest.param(encode((mask(True) // 255).astype(np.uint16)), id="sixteen-bit"),
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
    # 255 alone is a mark, unless the file is known to hold numbers.
    marked = encode(np.array([[0, 255]], np.uint8))
    assert decode_mask(marked).tolist() == [[0, 1]]
    assert decode_mask(marked, numbered=True).tolist() == [[0, 255]]


def test_an_encoded_mask_is_a_one_bit_png_that_reads_back():
    data = encode_mask(mask(True) // 255)
    assert data.startswith(b"\x89PNG")
    assert data[24] == 1  # bit depth
    assert np.array_equal(decode_mask(data), mask(True) // 255)


# Enhancing and resizing
