"""Every kind of TIFF that tifffile writes is read right or refused, never read wrong."""

import io
import struct
from itertools import product

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from defectline.components.common.images.reading import UnreadableImage, decode_image

HEIGHT, WIDTH = 40, 56


def values(kind: np.dtype, bands: int) -> NDArray:
    """A ramp (HEIGHT, WIDTH, bands) over the range of an integer type, or from 0 to 1."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.stack([(x / WIDTH + y / HEIGHT) / 2 + band * 0.03 for band in range(bands)], axis=2) / 1.1
    if kind.kind == "f":
        return ramp.astype(kind)
    info = np.iinfo(kind)
    return (info.min + ramp * (float(info.max) - info.min)).astype(kind)


def right(pixels: NDArray, photometric: str) -> NDArray[np.uint8] | None:
    """(HEIGHT, WIDTH, 3), or None where the file is to be refused."""
    if pixels.dtype not in (np.uint8, np.uint16):
        return None
    upper = (pixels >> (8 * pixels.dtype.itemsize - 8)).astype(np.uint8)
    if photometric == "rgb":
        return upper[..., :3]
    grey = upper[..., :1]
    return np.repeat(255 - grey if photometric == "miniswhite" else grey, 3, axis=2)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_it_is_read_right_or_refused(photometric: str, kind: str):
    bands, read, words = 3 if photometric == "rgb" else 1, 0, set()
    layouts = product(
        "<>", ("contig", "separate"), (None, "zlib"), (False, True), (None, (16, 32)), ((), ("unassalpha",))
    )
    for order, planes, compression, predictor, tile, extra in layouts:
        pixels = values(np.dtype(kind), bands + len(extra))
        if predictor and (kind.startswith("f") or not compression):
            # For floats it needs a package that is not installed.
            continue
        if pixels.shape[2] == 1 and planes == "separate":
            continue
        stored = np.moveaxis(pixels, 2, 0) if planes == "separate" else pixels
        out = io.BytesIO()
        tifffile.imwrite(
            out,
            stored[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(stored),
            photometric=photometric,
            planarconfig=planes if pixels.shape[2] > 1 else None,
            byteorder=order,
            compression=compression,
            predictor=predictor,
            tile=tile,
            rowsperstrip=None if tile else 11,
            extrasamples=extra or None,
            metadata=None,
        )
        wanted = right(pixels, photometric)
        try:
            found = decode_image(out.getvalue(), 3)
        except UnreadableImage as error:
            words.add(error.what)
            continue
        assert wanted is not None, (order, planes, compression, predictor, tile, extra)
        assert np.array_equal(found, wanted), (order, planes, compression, predictor, tile, extra)
        read += 1
    assert (read > 0) == (kind in ("u1", "u2"))
    assert not any("damaged" in what or "format that can" in what for what in words), words


def packed(values: NDArray[np.uint16], bits: int, order: str) -> bytes:
    """A grey or RGB TIFF, (H, W, bands), whose values follow each other without gaps."""
    height, width, bands = values.shape
    rows = np.unpackbits(values.reshape(height, -1, 1).astype(">u2").view(np.uint8), axis=2)
    data = np.packbits(rows[..., 16 - bits :].reshape(height, -1), axis=1).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: min(bands, 2), 273: 0, 277: bands}
    tags |= {278: height, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + data


PACKED = product((10, 12, 14), (1, 3), "<>")
READ = {(12, 1, "<")}


@pytest.mark.parametrize(("bits", "bands", "order"), sorted({*PACKED} - READ))
def test_packed_values_are_refused_by_name(bits: int, bands: int, order: str):
    with pytest.raises(UnreadableImage, match=f"{bits} bits a channel, packed without gaps") as caught:
        decode_image(packed(values(np.dtype("u2"), bands) >> (16 - bits), bits, order))
    assert f"{bands} × {bits} bits" in caught.value.got
    assert "16 bits a channel" in caught.value.fix


@pytest.mark.parametrize(("bits", "bands", "order"), sorted(READ))
def test_packed_values_that_pillow_knows_are_read(bits: int, bands: int, order: str):
    ramp = values(np.dtype("u2"), bands)
    assert np.array_equal(
        decode_image(packed(ramp >> (16 - bits), bits, order), 3), right(ramp, "minisblack")
    )
