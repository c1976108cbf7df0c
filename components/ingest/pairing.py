"""Which mask belongs to which picture: by name, never by position."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from defectline.components.common.errors import DefectlineError, SourceError
from defectline.components.common.snapshot import LABELS, Pair
from defectline.components.common.storage import Object, check_key

FOLDERS = {f"{label}{suffix}": (label, kind) for label in LABELS for suffix, kind in (("", 0), ("_MSK", 1))}
"""Folder of the source → label, and 0 for images or 1 for masks."""
KIND = re.compile(r"[_\-. ]*(image|img|mask|msk)$", re.IGNORECASE)


class Paired(NamedTuple):
    pairs: list[tuple[Object, Object, Pair]]
    """Image, mask and what is known of them so far."""
    rejected: list[Pair]
    elsewhere: int
    """Objects outside the four folders, which are no business of ours."""


def stem(name: str) -> str:
    """What a picture and its mask have in common: the name without its suffix and its kind.

    >>> stem("00007_NG_Image.bmp"), stem("00007_NG_Mask.bmp"), stem("part.7.png")
    ('00007_NG', '00007_NG', 'part.7')
    """
    path = PurePosixPath(name)
    base = path.stem
    # Macs write ü as two characters, which is another name to everybody else.
    return unicodedata.normalize("NFC", (path.parent / (KIND.sub("", base) or base)).as_posix())


def pair_objects(objects: Iterable[Object]) -> Paired:
    """Pair the objects of a source. Pure; their order does not matter.

    Raises SourceError where the layout is not that of a source, or a class has no images.
    """
    found: dict[tuple[str, str], tuple[list[Object], list[Object]]] = defaultdict(lambda: ([], []))
    elsewhere = 0
    rejected = []
    for item in sorted(objects):
        folder, _, name = item.key.partition("/")
        if folder not in FOLDERS or not name:
            elsewhere += 1
            continue
        label, kind = FOLDERS[folder]
        try:
            check_key(item.key).encode()
        except (DefectlineError, UnicodeEncodeError):
            reason = "Its name has a backslash, a control character, .. or bytes that are not UTF-8."
            image, mask = (None, item) if kind else (item, None)
            rejected.append(_rejected(label, name, image, mask, reason, "Rename the file."))
            continue
        found[label, stem(name)][kind].append(item)
    _check_layout(found, elsewhere + len(rejected))
    pairs = []
    for (label, name), (images, masks) in sorted(found.items()):
        if len(images) == len(masks) == 1:
            pair = Pair(f"{label}/{name}", label, "accepted", images[0].key, masks[0].key)
            pairs.append((images[0], masks[0], pair))
        elif not masks:
            for item in images:
                rejected.append(
                    _rejected(label, name, item, None, "No mask of that name.", f"Add one to {label}_MSK/.")
                )
        elif not images:
            for item in masks:
                rejected.append(
                    _rejected(label, name, None, item, "No image of that name.", f"Add one to {label}/.")
                )
        else:
            names = ", ".join(item.key for item in images + masks)
            reason = f"More than one image or mask of the same name: {names}."
            rejected.append(
                _rejected(label, name, images[0], masks[0], reason, "Keep one of each, or rename.")
            )
    return Paired(pairs, rejected, elsewhere)


def _rejected(
    label: str, name: str, image: Object | None, mask: Object | None, reason: str, fix: str
) -> Pair:
    return Pair(
        _printable(f"{label}/{name}"),
        label,
        "rejected",
        image_key=_printable(image.key) if image else "",
        mask_key=_printable(mask.key) if mask else "",
        reason=reason,
        fix=fix,
    )


def _printable(name: str) -> str:
    """The name with `\\xff` for what is not UTF-8, which no table can hold."""
    return name.encode(errors="backslashreplace").decode()


def _check_layout(found: dict[tuple[str, str], tuple[list[Object], list[Object]]], elsewhere: int) -> None:
    layout = "the folders OK/, NG/, OK_MSK/ and NG_MSK/, with an image and its mask of the same name"
    if not found:
        raise SourceError(
            "The source is empty." if not elsewhere else "The source has another layout.",
            got="no file" if not elsewhere else f"{elsewhere} files, none of them in these folders",
            expected=layout,
            fix="Check the URI, or try `defectline sample DIR` for an example.",
        )
    for label in LABELS:
        if not any(images for (of, _), (images, _) in found.items() if of == label):
            raise SourceError(
                f"The class {label} has no images.",
                got=f"no file in {label}/",
                expected=layout,
                fix=f"Put the {'good' if label == 'OK' else 'defective'} pictures into {label}/.",
            )
