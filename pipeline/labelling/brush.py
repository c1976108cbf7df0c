"""Masks as Label Studio's brush has them: an RGBA picture in the run lengths of rle-pack."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WORD = 8
SIZES = (3, 4, 8, 16)
"""Bits that the length of a run may have."""
LONGEST = 1 << SIZES[-1]


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask (H, W), each of its values four times: red, green, blue, and opaque."""
    flat = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = [*_bits(len(flat), 32), *_bits(WORD - 1, 5)]
    for size in SIZES:
        bits += _bits(size - 1, 4)
    for value, length in _runs(flat):
        kind = next(number for number, size in enumerate(SIZES) if length <= 1 << size)
        bits += [1, *_bits(kind, 2), *_bits(length - 1, SIZES[kind]), *_bits(value, WORD)]
    return np.packbits(np.array(bits, np.uint8)).tolist()


def _runs(values: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Values and how often each comes in a row, no more than LONGEST times."""
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True):
        for at in range(start, end, LONGEST):
            yield int(values[start]), min(LONGEST, end - at)


def _bits(number: int, count: int) -> list[int]:
    return [number >> place & 1 for place in reversed(range(count))]
