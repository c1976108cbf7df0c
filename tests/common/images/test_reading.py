"""Pictures come out of their files as they were saved, or the reason is told."""

import random
import struct
import zlib

import cv2
import numpy as np
import pytest
from pictures import encode, noise, turned, with_palette
from PIL import Image

from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import MAX_PIXELS, UnreadableImage, decode_image, read_image

GREY = noise(0)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says how large it is and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + start + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


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
        pytest.param(encode(GREY, "GIF"), "is a GIF", "GIF8", id="gif"),
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
