"""Decoding, enhancing and resizing pictures and masks."""

import random
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import encode, mask, noise, turned
from PIL import Image
from pydantic import ValidationError

from defectline.components.common.images.imaging import (
    MAX_PIXELS,
    ImagingSettings,
    UnreadableImage,
    decode_image,
    decode_mask,
    decode_truth,
    encode_mask,
    enhance,
    prepare_image,
    prepare_mask,
    read_image,
    read_mask,
)

GREY = noise(0)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]


def with_palette(indices: NDArray[np.uint8], colours: list[int]) -> Image.Image:
    picture = Image.fromarray(indices, "L")
    picture.putpalette(colours)
    return picture


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says how large it is and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + start + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


# Pictures


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_pixels_of_a_lossless_file_are_what_was_saved(kind: str, options: dict[str, str]):
    assert np.array_equal(decode_image(encode(GREY, kind, **options))[..., 0], GREY)
    assert np.array_equal(decode_image(encode(COLOUR, kind, **options), channels=3), COLOUR)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_pixels_of_a_lossy_file_are_close(kind: str):
    plain = np.full((16, 16), 90, np.uint8)
    assert np.abs(decode_image(encode(plain, kind)).astype(int) - 90).max() <= 2


def test_channels_decide_the_shape_whatever_the_file_holds():
    for data in (encode(GREY), encode(cv2.merge([GREY] * 3))):
        assert decode_image(data, channels=1).shape == (16, 16, 1)
        assert decode_image(data, channels=3).shape == (16, 16, 3)
        assert np.array_equal(decode_image(data, channels=3)[..., 1], GREY)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_upper_eight(channels: int):
    values = np.array([[0, 255, 256], [0x1234, 0x80FF, 65535]], np.uint16)
    for data in (encode(values), encode(values, "TIFF"), encode(values.astype(np.int32), "TIFF")):
        assert decode_image(data, channels)[..., 0].tolist() == [[0, 0, 1], [0x12, 0x80, 255]]


def test_a_palette_is_looked_up():
    picture = with_palette(np.array([[0, 1, 2]], np.uint8), [255, 0, 0, 0, 255, 0, 7, 8, 9])
    assert decode_image(encode(picture), 3).tolist() == [[[255, 0, 0], [0, 255, 0], [7, 8, 9]]]


def test_alpha_is_dropped():
    rgba = np.dstack([COLOUR, np.full(COLOUR.shape[:2], 7, np.uint8)])
    assert np.array_equal(decode_image(encode(rgba), 3), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_turns_a_picture_upright(kind: str):
    lying = np.zeros((16, 32), np.uint8)
    lying[:, :16] = 255
    # 6: the camera was turned, so the left of what it stored is the top.
    data = encode(lying, kind, exif=turned(6))
    assert (read_image(data).orientation, read_image(encode(lying, kind)).orientation) == (6, 1)
    upright = decode_image(data)[..., 0]
    assert upright.shape == (32, 16)
    assert upright[:8].min() > 200
    assert upright[-8:].max() < 50


@pytest.mark.parametrize(
    ("data", "what", "got"),
    [
        pytest.param(b"", "not a picture", "0 bytes", id="empty"),
        pytest.param(b"<html></html>", "not a picture", "<html>", id="text"),
        pytest.param(encode(GREY, "GIF"), "not a picture", "GIF8", id="gif"),
        pytest.param(encode(GREY)[:-100], "damaged", "truncated", id="truncated"),
        pytest.param(encode(GREY, "BMP")[:-1], "damaged", "truncated", id="truncated-bmp"),
        pytest.param(encode(GREY, "JPEG")[:-50], "damaged", "truncated", id="truncated-jpeg"),
        pytest.param(
            encode(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1))), "too large", "10000×5001", id="large"
        ),
        pytest.param(png_of_size(10_000, 9_000), "too large", "10000×9000", id="larger"),
        pytest.param(png_of_size(100_000, 100_000), "too large", "10000000000", id="bomb"),
        pytest.param(
            encode(noise(1), "PNG", save_all=True, append_images=[Image.fromarray(noise(2))]),
            "more than one",
            "2 frames",
            id="animated",
        ),
        pytest.param(
            encode(noise(1), "TIFF", save_all=True, append_images=[Image.fromarray(noise(2))]),
            "more than one",
            "2 frames or pages",
            id="pages",
        ),
        pytest.param(encode(GREY.astype(np.float32), "TIFF"), "kind of pixels", "mode F", id="float"),
        pytest.param(encode(Image.new("LAB", (8, 8)), "TIFF"), "kind of pixels", "mode LAB", id="lab"),
        pytest.param(encode(np.array([[70_000]], np.int32), "TIFF"), "out of range", "70000", id="32-bit"),
        pytest.param(encode(np.array([[-1]], np.int32), "TIFF"), "out of range", "-1", id="negative"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_useless_file_says_why(data: bytes, what: str, got: str, channels: int):
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data, channels)
    assert what in caught.value.what
    assert got in caught.value.got
    assert caught.value.fix


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, most of them near its start, and sometimes cut short."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8])):
        changed[rng.randrange(min(len(data), rng.choice([64, 256, len(data)])))] = rng.choice([0, 1, 255])
    return bytes(changed[: rng.randrange(len(data))] if rng.random() < 0.2 else changed)


SOUND = [
    encode(GREY),
    encode(GREY, exif=turned(6)),
    encode(GREY, "JPEG", exif=turned(3)),
    encode(GREY, "BMP"),
    encode(GREY, "TIFF", exif=turned(8)),
    encode(COLOUR, "TIFF", compression="tiff_lzw"),
    encode(COLOUR, "WEBP"),
    encode(with_palette(GREY, list(range(256)) * 3), "PNG"),
]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage before it gives up
def test_no_damage_escapes_as_another_error():
    rng = random.Random(0)
    refused = 0
    for _ in range(1500):
        data = damaged(rng.choice(SOUND), rng)
        for decode in (decode_image, decode_mask):
            try:
                decode(data)
            except UnreadableImage:
                refused += 1
    assert refused > 1000


# Masks


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
    assert np.array_equal(decode_truth(data, found.pixels.shape), found.pixels)


def test_an_exact_mask_has_no_note():
    for pixels in (SHARP, SHARP // 255, SHARP.astype(np.uint16) * 257):
        found = read_mask(encode(pixels))
        assert (found.note, found.pixels.tolist()) == ("", (SHARP // 255).tolist())


def test_no_file_is_an_empty_mask():
    truth = decode_truth(b"", (5, 9))
    assert (truth.shape, truth.dtype, truth.any()) == ((5, 9), np.uint8, False)


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
        pytest.param(encode(mask(True) // 2), "other values", "0, 127", id="grey"),
        pytest.param(encode(GREY), "other values", "values from 0 to", id="smooth"),
        pytest.param(encode(np.array([[0, 1, 255]], np.uint8)), "other values", "0, 1, 255", id="mixed"),
        pytest.param(encode(doubtful(40, 128)), "other values", "0, 40, 128, 255", id="grey-streak"),
        pytest.param(encode(doubtful(41, 255)), "other values", "0, 41, 255", id="grey-far-from-edges"),
        pytest.param(
            encode(np.array([[0, 1, 2, 255]], np.uint8)), "other", "0, 1, 2, 255", id="ignored-class"
        ),
        pytest.param(encode(mask(True), "JPEG", quality=5), "other values", "values from", id="coarse-jpeg"),
        pytest.param(
            encode(mask(True).astype(np.uint16) << 7), "other values", "0, 32640", id="sixteen-bit-grey"
        ),
        pytest.param(encode((mask(True) / 510).astype(np.float32), "TIFF"), "other", "0, 0.5", id="float"),
        pytest.param(
            encode(with_palette(np.array([[0, 1, 2]], np.uint8), [0, 0, 0, 9, 9, 9, 5, 5, 5])),
            "other values",
            "0, 1, 2",
            id="three-classes",
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


def test_an_encoded_mask_is_a_one_bit_png_that_reads_back():
    data = encode_mask(mask(True) // 255)
    assert data.startswith(b"\x89PNG")
    assert data[24] == 1  # bit depth
    assert np.array_equal(decode_mask(data), mask(True) // 255)


# Enhancing and resizing


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(224, 224), (16, 16), (100, 300), (1, 1)])
def test_enhancing_keeps_shape_and_type(shape: tuple[int, int], channels: int):
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    before = image.copy()
    out = enhance(image)
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)


def test_enhancing_widens_a_bright_point_by_one_pixel():
    image = np.zeros((56, 56, 1), np.uint8)
    image[28, 28] = 255
    ys, xs = np.nonzero(enhance(image)[..., 0] == enhance(image).max())
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (27, 29, 27, 29)


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(64, 64), (32, 32), (224, 100), (20, 500), (1, 1)])
def test_a_prepared_picture_has_the_networks_shape(shape: tuple[int, int], channels: int, enhanced: bool):
    settings = ImagingSettings(image_size=64, channels=channels, enhance=enhanced)
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    out = prepare_image(image, settings)
    assert (out.shape, out.dtype, out.flags.c_contiguous) == ((64, 64, channels), np.uint8, True)
    assert prepare_mask(image[..., 0] % 2, settings).shape == (64, 64)


def test_a_picture_of_the_networks_size_stays_as_it_is():
    settings = ImagingSettings(image_size=32)
    image = noise(0, 32)
    assert np.array_equal(prepare_image(image[..., None], settings)[..., 0], image)
    assert np.array_equal(prepare_mask(image % 2, settings), image % 2)


def test_shrinking_averages_and_growing_interpolates():
    settings = ImagingSettings(image_size=32)
    image = noise(0, 64)
    means = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(prepare_image(image[..., None], settings)[..., 0] - means).max() <= 0.5
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None], 16, axis=0)
    assert (np.diff(prepare_image(ramp[..., None], settings)[0, :, 0].astype(int)) >= 0).all()


def test_a_narrow_picture_is_averaged_too():
    """A side that shrinks beside one that grows: a line scan of 16×640 with a thin bright line."""
    settings = ImagingSettings(image_size=64)
    for column in range(300, 311):
        image = np.zeros((16, 640), np.uint8)
        image[:, column] = 250
        assert prepare_image(image[..., None], settings).max() == 25
        assert prepare_mask((image > 0).astype(np.uint8), settings).sum() == 64


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_defect_of_one_pixel_never_vanishes(height: int, width: int, place: tuple[float, float]):
    truth = np.zeros((height, width), np.uint8)
    y, x = int(place[0] * height), int(place[1] * width)
    truth[y, x] = 1
    found = prepare_mask(truth, ImagingSettings(image_size=64))
    ys, xs = np.nonzero(found)
    assert set(np.unique(found)) == {0, 1} or height * width == 1
    assert abs((ys.mean() + 0.5) / 64 - (y + 0.5) / height) <= 1 / 64
    assert abs((xs.mean() + 0.5) / 64 - (x + 0.5) / width) <= 1 / 64


def test_an_empty_mask_stays_empty_and_a_full_one_full():
    for size in (16, 64, 200):
        for value in (0, 1):
            out = prepare_mask(np.full((size, size), value, np.uint8), ImagingSettings(image_size=64))
            assert (out == value).all()


@pytest.mark.parametrize(
    "wrong",
    [{"image_size": 100}, {"image_size": 0}, {"image_size": 4096}, {"channels": 2}, {"enhanced": True}],
)
def test_wrong_settings_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValidationError):
        ImagingSettings(**wrong)
