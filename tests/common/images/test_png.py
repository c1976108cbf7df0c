"""What is not the picture is left out of a PNG, and nothing else."""

import io

import numpy as np
from camera_files import chunk, png
from pictures import encode, noise, turned
from PIL import Image

from defectline.components.common.images.png import bare, bits, in_halves

PLAIN = encode(noise(0))


def with_chunks(*chunks: bytes) -> bytes:
    return PLAIN[:33] + b"".join(chunks) + PLAIN[33:]


def test_profiles_and_texts_are_left_out():
    assert bare(with_chunks(chunk(b"iCCP", b"p\0\0x"), chunk(b"tEXt", b"a\0b"), chunk(b"teSt", b""))) == PLAIN
    assert bare(PLAIN + b"trailing") == PLAIN


def test_what_says_how_the_pixels_are_stays():
    exif = chunk(b"eXIf", turned(6).tobytes().removeprefix(b"Exif\0\0"))
    old = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 0\n")
    for kept in (exif, old, chunk(b"tRNS", b"\0\1"), chunk(b"PLTE", b"\0\0\0")):
        assert bare(with_chunks(kept)) == with_chunks(kept)


def test_what_cannot_be_taken_apart_is_left_to_the_decoder():
    for data in (b"", b"text", PLAIN[:-3], PLAIN[:20], encode(noise(0), "BMP")):
        assert bare(data) == data


def test_the_header_says_how_many_bits():
    assert bits(PLAIN) == 8
    assert bits(encode(noise(0) > 99)) == 1


def test_a_wide_grey_with_alpha_is_read_in_halves():
    values = np.array([[[0x1234, 0xFFFF], [1, 0x80]]], np.uint16)
    halves = np.asarray(Image.open(io.BytesIO(in_halves(png(values, 16, 4)))))
    assert halves.tolist() == [[[0x12, 0x34, 0xFF, 0xFF], [0, 1, 0, 0x80]]]
