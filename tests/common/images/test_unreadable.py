"""What a file is that is not a picture, or not one that is read."""

import pytest

from defectline.components.common.images.unreadable import NO_PICTURE, READ, unidentified


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x1cftypmif1", "HEIC"),
        (b"\0\0\0\x18ftypcrx ", "raw file (CR3)"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"P5\n2 2\n255\n0000", "a Netpbm file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\n  <svg xmlns=", "a drawing (SVG)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML"),
        (b'{"version": "5.0"}', "JSON"),
        (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "what macOS keeps beside a file"),
        (b"PK\x03\x04", "an archive"),
    ],
)
def test_the_reason_names_it(data: bytes, what: str):
    error = unidentified(data + bytes(30))
    assert what in error.what
    assert error.what != NO_PICTURE
    assert error.fix
    assert READ in error.expected


@pytest.mark.parametrize("data", [b"", b"text", b"\x01\x02\x03\x04"])
def test_anything_else_is_no_picture(data: bytes):
    error = unidentified(data)
    assert error.what == NO_PICTURE
    assert error.got.startswith(f"{len(data)} bytes")
