"""Pictures as cameras, phones and programs make them, with the right pixels or the words of refusal."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from pictures import encode, turned
from PIL import Image, ImageCms

HEIGHT, WIDTH = 60, 84


class CameraFile(NamedTuple):
    """A file, and what must become of it."""

    id: str
    data: bytes
    pixels: NDArray[np.uint8] | None = None
    """(H, W, 3), the right values; None where the file is refused."""
    words: str = ""
    """In the refusal."""
    note: str = ""
    """In the note of an accepted one."""
    near: int = 0
    """By how much the pixels of a lossy file may differ."""


@cache
def scene() -> NDArray[np.uint16]:
    """Colours (HEIGHT, WIDTH, 3) of 16 bits that use the whole range."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 65536, (5, 7, 3)).astype(np.float32)
    large = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    large[0, 0], large[-1, -1] = 0, 65535
    return large.round().astype(np.uint16)


@cache
def grey() -> NDArray[np.uint16]:
    return scene()[..., 0].copy()


def eight(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The upper eight bits as (H, W, 3)."""
    upper = (values >> 8).astype(np.uint8)
    return np.repeat(upper[..., None], 3, axis=2) if upper.ndim == 2 else upper[..., :3]


def png(values: NDArray[Any], bits: int, colours: int, extra: bytes = b"") -> bytes:
    """A PNG of any bit depth and colour type, with `extra` chunks before its pixels."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1)
    packed = [_pack(row, bits) for row in rows]
    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in packed))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _pack(row: NDArray[Any], bits: int) -> bytes:
    if bits >= 8:
        return row.tobytes()
    return np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(values: NDArray[Any], photometric: str, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, photometric=photometric, metadata=None, **options)
    return out.getvalue()


def bgr(values: NDArray[Any]) -> bytes:
    """A PNG as OpenCV writes it."""
    order = [2, 1, 0, 3][: values.shape[2]]
    return cv2.imencode(".png", np.ascontiguousarray(values[..., order]))[1].tobytes()


def opaque(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)])


def wide() -> Iterator[CameraFile]:
    """More than 8 bits a channel."""
    whole, one = eight(scene()), eight(grey())
    planes = np.moveaxis(scene(), 2, 0)
    yield CameraFile("rgb16-png", bgr(scene()), whole)
    yield CameraFile("rgba16-png", bgr(opaque(scene())), whole)
    yield CameraFile("grey16-png", encode(grey()), one)
    yield CameraFile("grey16-alpha-png", png(np.dstack([grey(), grey()]), 16, 4), one)
    for order in "<>":
        yield CameraFile(f"grey16-tiff{order}", tiff(grey(), "minisblack", byteorder=order), one)
        yield CameraFile(
            f"white-is-zero16-tiff{order}", tiff(65535 - grey(), "miniswhite", byteorder=order), one
        )
        yield CameraFile(
            f"planes16-tiff{order}",
            tiff(planes, "rgb", planarconfig="separate", byteorder=order, rowsperstrip=7),
            whole,
        )
        yield CameraFile(
            f"planes16-tiles-tiff{order}",
            tiff(planes, "rgb", planarconfig="separate", byteorder=order, tile=(16, 32)),
            whole,
        )
        yield CameraFile(f"rgb16-tiff{order}", tiff(scene(), "rgb", byteorder=order), whole)
    yield CameraFile("white-is-zero8-tiff", tiff(255 - one[..., 0], "miniswhite"), one)
    yield CameraFile("rgb16-deflate-tiff", tiff(scene(), "rgb", compression="zlib", predictor=True), whole)
    yield CameraFile("widened-png", encode((grey() >> 8) * 257), one)
    yield CameraFile(
        "widened-dull-png", encode(((grey() >> 13) + 40) * 257), eight(((grey() >> 13) + 40) * 257)
    )
    for bits in (10, 12):
        low = scene() >> (16 - bits)
        black = "of 16 bits a channel it uses the lowest 12 at most"
        for name, data in {
            "rgb-png": bgr(low),
            "rgba-png": bgr(np.dstack([low, np.full(low.shape[:2], 65535, np.uint16)])),
            "grey-png": encode(low[..., 0]),
            "grey-alpha-png": png(np.dstack([low[..., 0], grey() | 65535]), 16, 4),
            "rgb-tiff": tiff(low, "rgb"),
            "rgba-tiff": tiff(opaque(low), "rgb", extrasamples=["unassalpha"]),
            "planes-tiff": tiff(np.moveaxis(low, 2, 0), "rgb", planarconfig="separate"),
            "grey-tiff": tiff(low[..., 0], "minisblack"),
        }.items():
            yield CameraFile(f"{bits}-of-16-{name}", data, words=black)
    low = scene() >> 2
    noted = "64 of 256 levels"
    yield CameraFile("14-of-16-rgb-png", bgr(low), eight(low), note=noted)
    yield CameraFile("14-of-16-grey-png", encode(low[..., 0]), eight(low[..., 0]), note=noted)
    yield CameraFile("14-of-16-rgb-tiff", tiff(low, "rgb"), eight(low), note=noted)
    alpha = np.dstack([low[..., 0], grey() | 65535])
    yield CameraFile("14-of-16-grey-alpha-png", png(alpha, 16, 4), eight(low[..., 0]), note=noted)
    sliver = (30_000 + grey() // 40).astype(np.uint16)
    yield CameraFile("sliver-grey-png", encode(sliver), words="of 256 levels of its 16 bits it uses 7")
    yield CameraFile("sliver-rgb-png", bgr(np.dstack([sliver] * 3)), words="of its 16 bits it uses 7")
    yield CameraFile("12-bit-jpeg", twelve_bits(), words="a JPEG of a kind that is not read: 12-bit")
    yield CameraFile("float-tiff", tiff((grey() / 65535).astype(np.float32), "minisblack"), words="mode F")
    yield CameraFile("signed-tiff", tiff((grey() >> 8).astype(np.int8), "minisblack"), words="signed")
    yield CameraFile(
        "rgb32-tiff", tiff(scene().astype(np.uint32), "rgb"), words="a TIFF of a kind that is not read"
    )
    yield CameraFile(
        "half-float-tiff",
        tiff((grey() / 65535).astype(np.float16), "minisblack"),
        words="16 floating-point bits",
    )


def twelve_bits() -> bytes:
    """The header of a JPEG with 12 bits a sample, which no decoder here gets past."""
    data = bytearray(encode(eight(scene()), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = 0xC1, 12
    return bytes(data)


def metadata() -> Iterator[CameraFile]:
    """What stands in a file besides its picture."""
    whole = eight(scene())
    plain = encode(whole)
    noise = np.random.default_rng(0).bytes(3 * 2**20)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    def with_chunk(kind: bytes, data: bytes, spoil: bool = False) -> bytes:
        added = bytearray(chunk(kind, data))
        added[-1] ^= spoil
        return plain[:33] + bytes(added) + plain[33:]

    text = zlib.compress(noise.hex().encode())
    yield CameraFile("profile-png", encode(whole, icc_profile=profile), whole)
    yield CameraFile(
        "large-profile-png", with_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile + bytes(2**22))), whole
    )
    yield CameraFile("large-ztxt-png", with_chunk(b"zTXt", b"Comment\0\0" + text), whole)
    yield CameraFile("large-itxt-png", with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text), whole)
    yield CameraFile("large-text-png", with_chunk(b"tEXt", b"Comment\0" + b"x" * 2**22), whole)
    yield CameraFile("broken-exif-png", with_chunk(b"eXIf", b"Exif\0\0not a TIFF at all"), whole)
    yield CameraFile("empty-exif-png", with_chunk(b"eXIf", b""), whole)
    yield CameraFile("broken-checksum-png", with_chunk(b"eXIf", turned(6).tobytes()[6:], spoil=True), whole)
    yield CameraFile("broken-size-png", with_chunk(b"pHYs", b"\0"), whole)
    yield CameraFile("gamma-png", with_chunk(b"gAMA", struct.pack(">I", 100_000)), whole)
    turned_exif = turned(6).tobytes().removeprefix(b"Exif\0\0")
    lying = np.rot90(whole)
    lying = encode(np.ascontiguousarray(np.rot90(whole)))
    turning = lying[:33] + chunk(b"eXIf", turned_exif) + lying[33:]
    yield CameraFile("exif-png", turning, whole, note="Turned upright by EXIF: the image by 6")
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    yield CameraFile("xmp-png", with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), whole)
    jpeg = encode(whole, "JPEG", quality=95)
    right = np.asarray(Image.open(io.BytesIO(jpeg)))
    yield CameraFile("xmp-jpeg", encode(whole, "JPEG", quality=95, xmp=xmp), right)
    yield CameraFile("xmp-webp", encode(whole, "WEBP", lossless=True, xmp=xmp), whole)
    yield CameraFile("xmp-tiff", tiff(whole, "rgb", extratags=[(700, 1, len(xmp), xmp, True)]), whole)
    yield CameraFile("broken-exif-jpeg", encode(whole, "JPEG", quality=95, exif=b"Exif\0\0nonsense"), right)
    yield CameraFile("broken-exif-webp", encode(whole, "WEBP", lossless=True, exif=b"nonsense"), whole)
    yield CameraFile("trailing-jpeg", jpeg + b"\0" * 4000, right)
    yield CameraFile("trailing-png", plain + b"\0" * 4000, whole)


def several() -> Iterator[CameraFile]:
    """Files with more than one picture."""
    whole = eight(scene())
    other = Image.fromarray(255 - whole)
    phone = encode(whole, "MPO", save_all=True, append_images=[other], quality=95)
    yield CameraFile("mpo", phone, np.asarray(Image.open(io.BytesIO(phone))))
    for kind in ("PNG", "WEBP"):
        data = encode(whole, kind, save_all=True, append_images=[other])
        yield CameraFile(f"animated-{kind}", data, words="more than one picture")
    pages = tiff(np.stack([whole, 255 - whole]), "rgb")
    yield CameraFile("pages-tiff", pages, words="more than one picture")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(whole, photometric="rgb", metadata=None)
        writer.write(whole[::4, ::4].copy(), photometric="rgb", subfiletype=1, metadata=None)
    yield CameraFile("thumbnail-behind-tiff", out.getvalue(), whole)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(whole, photometric="rgb", subifds=1, metadata=None)
        writer.write(whole[::4, ::4].copy(), photometric="rgb", subfiletype=1, metadata=None)
    yield CameraFile("thumbnail-within-tiff", out.getvalue(), whole)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(whole[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(whole, photometric="rgb", metadata=None)
    yield CameraFile("thumbnail-first-tiff", out.getvalue(), words="a smaller version of another")


def colours() -> Iterator[CameraFile]:
    """Kinds of pixels."""
    whole = eight(scene())
    picture = Image.fromarray(whole)
    inks = picture.convert("CMYK")
    yield CameraFile("cmyk-jpeg", encode(inks, "JPEG", quality=95), whole, near=40)
    yield CameraFile("cmyk-tiff", encode(inks, "TIFF"), np.asarray(inks.convert("RGB")))
    yield CameraFile("lab-tiff", encode(Image.new("LAB", (9, 9)), "TIFF"), words="mode LAB")
    yield CameraFile("ycbcr-tiff", encode(picture, "TIFF", compression="jpeg", quality=95), whole, near=40)
    for bits in (1, 2, 4):
        levels = (grey() >> (16 - bits)).astype(np.uint8)
        shades = np.repeat((levels * (255 // (2**bits - 1)))[..., None], 3, axis=2)
        yield CameraFile(f"grey{bits}-png", png(levels, bits, 0), shades)
        yield CameraFile(
            f"grey{bits}-tiff",
            encode_bits(levels, bits),
            shades,
        )
    yield CameraFile("interlaced-png", interlaced(), INTERLACED)
    yield CameraFile("bmp32", bitmap(32), whole)
    odd = bitmap(32).replace(struct.pack("<III", 0xFF0000, 0xFF00, 0xFF), struct.pack("<III", 0x3FF, 7, 9))
    yield CameraFile("bmp32-odd-masks", odd, words="a BMP of a kind that is not read")
    yield CameraFile("bmp24-top-down", bitmap(24, top_down=True), whole)
    coarse = whole >> 3 << 3 | whole >> 5
    coarse[..., 1] = whole[..., 1] >> 2 << 2 | whole[..., 1] >> 6
    yield CameraFile("bmp16-565", bitmap(16), coarse, near=1)


def encode_bits(levels: NDArray[np.uint8], bits: int) -> bytes:
    """A grey TIFF of fewer than 8 bits."""
    packed = [_pack(row, bits) for row in levels]
    tags = [
        (256, 3, levels.shape[1]),
        (257, 3, levels.shape[0]),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1),
        (278, 3, levels.shape[0]),
        (279, 4, sum(map(len, packed))),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + b"".join(packed)


INTERLACED = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, axis=2) * 4


def interlaced() -> bytes:
    """Eight rows in the seven passes of Adam7."""
    rows = INTERLACED[..., 0]
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    lines = b"".join(
        b"\0" + row.tobytes() for y, x, dy, dx in passes for row in np.ascontiguousarray(rows[y::dy, x::dx])
    )
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def bitmap(bits: int, top_down: bool = False) -> bytes:
    """A BMP with masks of bits for 16 and 32."""
    whole = eight(scene())
    rows = whole if top_down else whole[::-1]
    red, green, blue = (rows[..., band].astype(np.uint32) for band in range(3))
    masks = b""
    if bits == 16:
        masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
        pixels = ((red >> 3) << 11 | (green >> 2) << 5 | blue >> 3).astype("<u2").tobytes()
    elif bits == 32:
        masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
        pixels = (red << 16 | green << 8 | blue).astype("<u4").tobytes()
    else:
        pixels = b"".join(row.tobytes() + bytes(-row.size % 4) for row in rows[..., ::-1])
    head = struct.pack(
        "<IiiHHIIiiII",
        40,
        WIDTH,
        -HEIGHT if top_down else HEIGHT,
        1,
        bits,
        3 if masks else 0,
        len(pixels),
        0,
        0,
        0,
        0,
    )
    start = 14 + len(head) + len(masks)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + masks + pixels


def others() -> Iterator[CameraFile]:
    """Files of other formats, and files that lost a part."""
    whole = eight(scene())
    picture = Image.fromarray(whole)
    yield CameraFile("gif", encode(picture, "GIF"), words="is a GIF")
    yield CameraFile("jpeg-2000", encode(picture, "JPEG2000"), words="is JPEG 2000")
    yield CameraFile("avif", encode(picture, "AVIF"), words="is AVIF")
    yield CameraFile("heic", b"\0\0\0\x18ftypheic" + bytes(40), words="is HEIC")
    yield CameraFile("dicom", bytes(128) + b"DICM" + bytes(40), words="is DICOM")
    yield CameraFile("raw", b"II*\0\x10\0\0\0CR\2\0" + bytes(40), words="a camera's raw file (CR2)")
    yield CameraFile(
        "dng", tiff(whole, "rgb", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)]), words="a camera's raw file"
    )
    yield CameraFile("jpeg-2000-tiff", recoded(33005), words="a TIFF that holds JPEG 2000")
    yield CameraFile("webp-tiff", recoded(50001), words="a TIFF that holds WebP")
    yield CameraFile("pdf", b"%PDF-1.7" + bytes(40), words="but a PDF")
    yield CameraFile("page", b"<!DOCTYPE html><html>", words="but a web page")
    yield CameraFile("lfs", b"version https://git-lfs.github.com/spec/v1\n", words="Git LFS")
    yield CameraFile("zeros", bytes(5000), words="but zeros")
    for name, options in {
        "": {},
        "-progressive": {"progressive": True},
        "-turned": {"exif": turned(6)},
    }.items():
        data = encode(whole, "JPEG", quality=95, **options)
        half = data[: len(data) // 2 + 200].rstrip(b"\xff") + b"\xff\xd9"
        yield CameraFile(f"half-jpeg{name}", half, words="The picture is damaged")
        yield CameraFile(f"half-jpeg{name}-trailing", half + bytes(900), words="The picture is damaged")
    data = encode(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), compress_level=0)
    middle = data.rindex(b"IDAT") - 4
    yield CameraFile("half-png", data[:middle] + chunk(b"IEND", b""), words="The picture is damaged")


def recoded(compression: int) -> bytes:
    """A TIFF whose tag says another compression."""
    data = tiff(eight(scene()), "rgb", byteorder="<")
    entry = struct.pack("<HHI", 259, 3, 1)
    at = data.index(entry) + len(entry)
    return data[:at] + struct.pack("<H", compression) + data[at + 2 :]


CASES = [*wide(), *metadata(), *several(), *colours(), *others()]
