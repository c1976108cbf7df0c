"""What libjpeg does not say of a JPEG: the kind that it cannot decode, and pixels that it made up.

Where data are missing, libjpeg goes on with blocks of zeros, which are grey, and only warns.
"""

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

PROCESSES = {
    0xC0: "",
    0xC1: "",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic",
    0xCA: "arithmetic",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
    0xF7: "JPEG-LS",
}
"""Marker of a frame → how it is coded; "" where as usual."""
STANDALONE = {0x01, *range(0xD0, 0xD9)}
MARKER = re.compile(rb"\xff+([\x01-\xfe])")
END_OF_DATA = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
END_OF_IMAGE, START_OF_SCAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
FILLER = bytes(np.random.default_rng(0).integers(0, 255, 256, np.uint8))
"""Data that would be decoded where some are missing, and are skipped where none are."""


class Scan(NamedTuple):
    components: tuple[int, ...]
    first: int
    """Coefficients from here"""
    last: int
    """to here,"""
    low: int
    """but for so many bits."""
    begin: int
    end: int
    """Of the coded data in the file."""


class Frame(NamedTuple):
    """A JPEG by its headers."""

    process: str
    """As in PROCESSES."""
    bits: int
    components: tuple[int, ...]


def read_frame(data: bytes) -> Frame | None:
    """The header of the frame; None where there is none."""
    for marker, at, _ in _segments(data):
        if marker in PROCESSES:
            count = data[at + 7] if at + 7 < len(data) else 0
            parts = tuple(data[at + 8 : at + 8 + 3 * count : 3])
            return Frame(PROCESSES[marker], data[at + 2], parts)
        if marker == START_OF_SCAN:
            return None
    return None


def is_whole(data: bytes, picture: Image.Image) -> bool:
    """Whether the file holds data for every block of `picture`, as it was decoded from it and not turned.

    Costs a second decoding of progressive pictures and of those whose last pixel could be that of a
    missing block; nothing of others.
    """
    frame = read_frame(data)
    if frame is None or frame.process not in ("", "progressive"):
        return True
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    alone = len(_first_scan(data)) == len(frame.components)
    if not frame.process and alone and not _is_padding(last):
        return True
    scans = _scans(data)
    if not scans or not _covers(scans, frame):
        return False
    with JpegImageFile(io.BytesIO(_filled(data, scans))) as again:
        return bool(np.array_equal(np.asarray(again), np.asarray(picture)))


def _is_padding(pixel: Any) -> bool:
    """Whether the pixel may be of a block of zeros, whose colour is smoothed with that of others."""
    match pixel:
        case int(grey):
            brightness = float(grey)
        case (red, green, blue):
            brightness = 0.299 * red + 0.587 * green + 0.114 * blue
        case _:
            # Inks are inverted, so that zeros are 127.
            return pixel[-1] in (127, 128)
    return abs(brightness - 128) <= 1.5


def _covers(scans: list[Scan], frame: Frame) -> bool:
    """Whether each coefficient of each component is there to its last bit."""
    have: dict[int, NDArray[np.int64]] = {part: np.full(64, 99) for part in frame.components}
    for scan in scans:
        for part in scan.components:
            if part in have:
                have[part][scan.first : scan.last + 1] = scan.low
    return all(not bits.any() for bits in have.values())


def _filled(data: bytes, scans: list[Scan]) -> bytes:
    """The file with FILLER behind the data of each scan, which only an incomplete one takes in."""
    parts, at = [], 0
    restarted = any(marker == RESTART_INTERVAL for marker, _, _ in _segments(data))
    for scan in scans:
        filler = FILLER
        if restarted:
            # Where the data end with a whole interval, the decoder looks for the next restart first.
            count = len(RESTART.findall(data, scan.begin, scan.end))
            filler += bytes([0xFF, 0xD0 + count % 8]) + FILLER
        parts += [data[at : scan.end], filler]
        at = scan.end
    return b"".join([*parts, data[at:]])


def _first_scan(data: bytes) -> tuple[int, ...]:
    """The components in it."""
    for marker, at, _ in _segments(data):
        if marker == START_OF_SCAN:
            return tuple(data[at + 3 : at + 3 + 2 * data[at + 2] : 2])
    return ()


def _scans(data: bytes) -> list[Scan]:
    scans = []
    for marker, at, end in _segments(data):
        if marker != START_OF_SCAN or at + 2 >= len(data):
            continue
        count = data[at + 2]
        header = data[at + 3 : at + 6 + 2 * count]
        if len(header) < 3 + 2 * count:
            break
        first, last, bits = header[2 * count :]
        begin = at + int.from_bytes(data[at : at + 2], "big")
        scans.append(Scan(tuple(header[: 2 * count : 2]), first, last, bits & 15, begin, end))
    return scans


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, where its length stands, and where it ends, coded data included, up to the first EOI."""
    at = 2
    while (found := MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker in STANDALONE:
            continue
        if marker == END_OF_IMAGE or at + 2 > len(data):
            return
        end = at + int.from_bytes(data[at : at + 2], "big")
        if marker == START_OF_SCAN:
            following = END_OF_DATA.search(data, end)
            end = following.start() if following else len(data)
        yield marker, at, end
        at = end
