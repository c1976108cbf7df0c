"""One pair for each way in which a pair can be wrong."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pictures import encode, mask, noise
from PIL import Image


class Wrong(NamedTuple):
    id: str
    files: dict[str, bytes]
    """By their keys in the source."""
    reason: str
    """Part of what the quarantine table says."""


def _wrong(
    label: str, name: str, reason: str, image: bytes | None = None, truth: bytes | None = None
) -> Wrong:
    """A sound pair but for the file that is given."""
    number = 5000 + len(name) + 100 * ord(name[0]) + ord(name[-1])
    return Wrong(
        f"{label}/{name}",
        {
            f"{label}/{name}_Image.png": encode(noise(number)) if image is None else image,
            f"{label}_MSK/{name}_Mask.png": encode(mask(label == "NG")) if truth is None else truth,
        },
        reason,
    )


def _without(wrong: Wrong, kind: str) -> Wrong:
    return wrong._replace(files={key: data for key, data in wrong.files.items() if kind not in key})


def _with_another(wrong: Wrong, key: str) -> Wrong:
    return wrong._replace(files={**wrong.files, key: next(iter(wrong.files.values()))})


def _animated() -> bytes:
    return encode(noise(1), save_all=True, append_images=[Image.fromarray(noise(2))])


THREE_CLASSES = mask(True) // 255
THREE_CLASSES[10:12, 10:12] = 77
TWICE, BOTH = encode(noise(7001)), encode(noise(7002))

WRONG = [
    _wrong("OK", "text", "Image: The file is not a picture", image=b"<html>not found</html>"),
    _wrong("OK", "empty-file", "Image: The file is not a picture", image=b""),
    _wrong("NG", "cut", "Image: The picture is damaged", image=encode(noise(3))[:-60]),
    _wrong("OK", "animated", "Image: The file holds more than one picture", image=_animated()),
    _wrong("OK", "bomb", "Image: The picture is too large", image=encode(Image.new("1", (10_000, 5_001)))),
    _wrong("NG", "float", "Image: The picture's kind", image=encode(noise(4).astype(np.float32), "TIFF")),
    _wrong("NG", "mask-text", "Mask: The file is not a picture", truth=b"text"),
    _wrong("NG", "mask-cut", "Mask: The picture is damaged", truth=encode(mask(True))[:-30]),
    _wrong("NG", "size", "Sizes differ: mask 17×17, image 16×16", truth=encode(mask(True, 17))),
    _wrong("NG", "grey", "Mask: The mask holds neither two values nor", truth=encode(noise(5))),
    _wrong("NG", "classes", "Mask: The mask holds neither two values nor", truth=encode(THREE_CLASSES)),
    _wrong("NG", "alpha", "Mask: The mask is transparent", truth=encode(cv2.merge([mask(True)] * 4))),
    _wrong("NG", "no-defect", "NG, but its mask is empty", truth=encode(mask(False))),
    _wrong("OK", "defect", "OK, but its mask marks 9 px", truth=encode(mask(True))),
    _without(_wrong("OK", "no-mask", "No mask of that name"), "Mask"),
    _without(_wrong("OK", "no-image", "No image of that name"), "Image"),
    _with_another(_wrong("OK", "two", "More than one image or mask"), "OK/two.bmp"),
    _wrong("OK", "twice", "The same picture as OK/once", image=TWICE),
    _wrong("OK", "both-ok", "The same picture is both OK and NG: NG/both-ng, OK/both-ok", image=BOTH),
    _wrong("NG", "both-ng", "The same picture is both OK and NG: NG/both-ng, OK/both-ok", image=BOTH),
]


def write_wrong(source: Path) -> None:
    """Add all of them to a source, and the one that `OK/twice` repeats."""
    for wrong in (*WRONG, _wrong("OK", "once", "", image=TWICE)):
        for key, data in wrong.files.items():
            (source / key).parent.mkdir(parents=True, exist_ok=True)
            (source / key).write_bytes(data)
