"""A JPEG that lost a part of its data is told from a whole one, whatever follows or precedes the data."""

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encode, turned
from PIL import Image

from defectline.components.common.images.jpeg import is_whole, read_frame
from defectline.components.common.images.reading import UnreadableImage, decode_image

EOI = b"\xff\xd9"
KINDS = {
    "plain": {},
    "best": {"quality": 100, "subsampling": 0},
    "coarse": {"quality": 20},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts-by-row": {"restart_marker_rows": 1},
    "restarts-by-block": {"restart_marker_blocks": 3},
    "progressive-restarts": {"progressive": True, "restart_marker_rows": 1},
    "turned": {"exif": turned(6)},
}
"""How a file is saved."""


def scene(height: int = 97, width: int = 131) -> NDArray[np.uint8]:
    """Colours (height, width, 3) with texture up to the edges."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    grain = rng.integers(0, 30, (height, width, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) // 2 + grain


def cut(data: bytes, share: float) -> bytes:
    """The first part of the coded data, with an end as if it were whole."""
    begin = data.index(b"\xff\xda")
    return data[: begin + round((len(data) - begin) * share)].rstrip(b"\xff") + EOI


MODES = ("RGB", "L", "CMYK")
SAVED = {
    f"{kind}-{mode}": encode(Image.fromarray(scene()).convert(mode), "JPEG", **options)
    for kind, options in KINDS.items()
    for mode in MODES
}


@pytest.mark.parametrize("kind", SAVED)
def test_a_whole_file_is_whole(kind: str):
    decode_image(SAVED[kind], 3)
    decode_image(SAVED[kind] + b"\0\0trailing bytes of a phone" * 9, 3)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.97])
@pytest.mark.parametrize("kind", SAVED)
def test_a_file_that_lost_its_end_is_damaged(kind: str, share: float):
    with pytest.raises(UnreadableImage, match="The picture is damaged"):
        decode_image(cut(SAVED[kind], share), 3)


@pytest.mark.parametrize("kind", ["plain", "restarts-by-row", "progressive"])
def test_every_length_but_the_whole_is_damaged(kind: str):
    data = encode(Image.fromarray(scene(40, 48)), "JPEG", **KINDS[kind])
    begin = data.index(b"\xff\xda") + 14
    for end in range(begin, len(data) - 40, 7):
        with pytest.raises(UnreadableImage):
            decode_image(data[:end].rstrip(b"\xff") + EOI)


def test_grey_of_half_brightness_is_no_missing_part():
    for value in (127, 128):
        for size in ((1, 1), (7, 9), (64, 64), (120, 33)):
            for options in KINDS.values():
                decode_image(encode(np.full(size, value, np.uint8), "JPEG", **options))
                decode_image(encode(np.full((*size, 3), value, np.uint8), "JPEG", **options))


def test_scans_that_are_not_there_are_missed():
    data = SAVED["progressive-RGB"]
    last = data.rindex(b"\xff\xda")
    with pytest.raises(UnreadableImage, match="damaged"):
        decode_image(data[:last] + EOI)


def test_a_thumbnail_within_the_file_is_not_its_end():
    exif = Image.Exif()
    exif[0x927C] = encode(Image.fromarray(scene(32, 32)), "JPEG")
    data = encode(Image.fromarray(scene()), "JPEG", exif=exif)
    assert data.count(EOI) > 1
    decode_image(data)
    with pytest.raises(UnreadableImage, match="damaged"):
        decode_image(data[: len(data) // 2] + EOI)


def test_whole_files_cost_one_decoding(monkeypatch: pytest.MonkeyPatch):
    picture = Image.open(io.BytesIO(SAVED["plain-RGB"]))
    picture.load()
    monkeypatch.delattr("defectline.components.common.images.jpeg.JpegImageFile")
    assert is_whole(SAVED["plain-RGB"], picture)


def test_the_header_says_the_kind():
    frame = read_frame(SAVED["progressive-RGB"])
    assert frame is not None
    assert (frame.process, frame.bits, len(frame.components)) == ("progressive", 8, 3)
    assert read_frame(b"\xff\xd8\xff\xd9") is None
    assert read_frame(b"") is None
