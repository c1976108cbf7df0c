"""A PNG without what is not its picture: a profile or a text, however large or broken, condemns no pixels."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"tRNS", b"acTL", b"fcTL", b"fdAT"}
"""Chunks that say what the pixels are, or that there are several pictures, besides the critical ones."""
ANCILLARY = 0x20
"""In a chunk's first letter."""
TURNED = b"Raw profile type exif\0"
"""The text in which ImageMagick keeps EXIF data."""
MOST_TEXT = 2**20
"""Bytes of a text that Pillow reads."""


def bare(data: bytes) -> bytes:
    """The PNG with pixels and EXIF data alone; other files, and what cannot be taken apart, as they are."""
    if not data.startswith(SIGNATURE):
        return data
    kept: list[bytes | memoryview] = [SIGNATURE]
    last = b""
    for kind, chunk in _chunks(data):
        last = kind
        if not kind[0] & ANCILLARY or kind in PIXELS or _says_orientation(kind, chunk):
            kept.append(chunk)
    # What is cut short is for the decoder, whose words for it are better.
    return b"".join(kept) if last == b"IEND" and sum(map(len, kept)) < len(data) else data


def bits(data: bytes) -> int:
    """Bits a channel, by the header."""
    return data[24]


def in_halves(data: bytes) -> bytes:
    """A grey PNG of 16 bits with alpha as one of 8 bits in four channels, the halves of each value."""
    # Each pixel has as many bytes, so that the rows of both are the same.
    header = data[12:24] + bytes((8, 6)) + data[26:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and bytes of each chunk, up to the last that is whole."""
    at, whole = len(SIGNATURE), memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield kind, whole[at:end]
        if kind == b"IEND":
            return
        at = end


def _says_orientation(kind: bytes, chunk: memoryview) -> bool:
    sound = kind in (b"eXIf", b"tEXt", b"zTXt") and zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
    return sound and (kind == b"eXIf" or (chunk[8 : 8 + len(TURNED)] == TURNED and _fits(kind, chunk)))


def _fits(kind: bytes, chunk: memoryview) -> bool:
    """Whether Pillow reads the text."""
    if kind == b"tEXt":
        return True
    reader = zlib.decompressobj()
    try:
        reader.decompress(chunk[8 + len(TURNED) + 1 : -4], MOST_TEXT)
    except zlib.error:
        return False
    return not reader.unconsumed_tail
