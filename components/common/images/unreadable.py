"""What a file that cannot be used as a picture is, in words."""

import re

from defectline.components.common.errors import SourceError

NO_PICTURE = "The file is not a picture of a format that can be read."
READ = "PNG, JPEG, BMP, TIFF or WebP"


class UnreadableImage(SourceError):
    """The bytes are not a picture that can be used; `what` says why, in words for the quarantine table."""

    def __init__(self, what: str, *, got: str, fix: str):
        super().__init__(what, got=got, expected=f"one still picture ({READ})", fix=fix)


AS_PNG = "Save it as PNG."
AS_16_BITS = "Convert it to PNG or TIFF, 8 bits or 16 bits a channel that use the whole range."
HEADS = (
    # Starts with, is called, fix.
    (rb"GIF8[79]a", "a GIF", AS_PNG),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000", AS_PNG),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL", AS_PNG),
    (rb"II\xbc", "JPEG XR", AS_PNG),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "HEIC", "Save it as PNG or JPEG."),
    (rb"....ftyp(avif|avis)", "AVIF", AS_PNG),
    (rb"....ftypcrx", "a camera's raw file (CR3)", AS_16_BITS),
    (rb"....ftyp", "a video", "Save the frames as PNG, a file a frame."),
    (rb"RIFF....AVI ", "a video", "Save the frames as PNG, a file a frame."),
    (rb"\x1aE\xdf\xa3", "a video", "Save the frames as PNG, a file a frame."),
    (rb"(II|MM)(\*\0|\0\*)....CR", "a camera's raw file (CR2)", AS_16_BITS),
    (rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|FOVb|\0MRM", "a camera's raw file", AS_16_BITS),
    (rb".{128}DICM", "DICOM", AS_16_BITS),
    (rb"8BPS", "a Photoshop file", "Export it as PNG."),
    (rb"gimp xcf", "a GIMP file", "Export it as PNG."),
    (rb"v/1\x01", "OpenEXR", AS_16_BITS),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR", AS_16_BITS),
    (rb"SIMPLE  =", "FITS", AS_16_BITS),
    (rb"\x93NUMPY", "a NumPy array", AS_16_BITS),
    (rb"\x89HDF", "HDF5", AS_16_BITS),
    (rb"P[1-7][\s]", "a Netpbm file (PBM, PGM, PPM)", AS_PNG),
    (rb"\0\0[\x01\x02]\0[\x01-\xff]\0", "an icon or cursor", AS_PNG),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile", "Export it as PNG."),
    (rb"%!PS", "PostScript", "Export it as PNG."),
)
"""Pictures that are not read: the beginning of the file, what it is called, and the fix."""
OTHERS = (
    (rb"%PDF", "a PDF", "Export its picture as PNG."),
    (rb"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head)",
        "a web page",
        "Download it again: what was saved is the page of a login or an error.",
    ),
    (rb"\s*<\?xml.{0,400}<svg|\s*<svg", "a drawing (SVG)", "Export it as PNG."),
    (rb"\s*<", "XML", "Remove it, or put the picture in its place."),
    (rb"\s*[\[{][\s\"\[{\]}\d]", "JSON", "Remove it, or put the picture in its place."),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "Unpack it."),
    (rb"\0\x05\x16[\0\x07]", "what macOS keeps beside a file", "Remove it."),
    (rb"\0{64}", "zeros", "Copy the file again: its content was lost."),
)


def unidentified(data: bytes) -> UnreadableImage:
    """The error for a file that is not of a format that is read."""
    got = f"{len(data)} bytes that start with {data[:8]!r}" if data else "0 bytes"
    head = data[:600]
    for pattern, name, fix in HEADS:
        if re.match(pattern, head, re.DOTALL):
            return unread(f"The picture is {name}, which is not read.", got, fix)
    for pattern, name, fix in OTHERS:
        if re.match(pattern, head, re.DOTALL):
            return unread(f"The file is not a picture, but {name}.", got, fix)
    return unread(NO_PICTURE, got, "Remove the file, or save it as PNG.")


def unread(what: str, got: str, fix: str = AS_PNG) -> UnreadableImage:
    return UnreadableImage(what, got=got, fix=fix)
