"""Which mask belongs to which picture: by name, never by position."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import DefectlineError, SourceError
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, check_key

FOLDERS = {f"{label}{suffix}": (label, kind) for label in LABELS for suffix, kind in (("", 0), ("_MSK", 1))}
"""Folder of the source → label, and 0 for images or 1 for masks."""
SPLITS_KEY = "splits.csv"
"""A file at the source's root that says which picture goes into which split; it may be missing."""
KIND = re.compile(r"(^|[_\-. ]+|(?<=\d))(image|img|mask|msk)$", re.IGNORECASE)
"""What the names of images and masks may end with: `a_mask`, not `damask`."""


class Paired(NamedTuple):
    pairs: list[tuple[Object, Object | None, Pair]]
    """Image, mask (None for a good picture that needs none) and what is known of them so far."""
    rejected: list[Pair]
    elsewhere: int
    """Objects outside the four folders, which are left alone."""


def stem(name: str) -> str:
    """What a picture and its mask have in common: the name without its suffix and its kind.

    >>> stem("00007_NG_Image.bmp"), stem("00007_NG_Mask.bmp"), stem("part.7.png"), stem("p1/Mask.png")
    ('00007_NG', '00007_NG', 'part.7', 'p1')
    """
    path = PurePosixPath(name)
    base = KIND.sub("", path.stem) or ("" if path.parent.name else path.stem)
    # Macs write ü as two characters, which is another name to everybody else.
    return unicodedata.normalize("NFC", (path.parent / base).as_posix())


def pair_objects(objects: Iterable[Object], masks: str = "all") -> Paired:
    """Pair the objects of a source. Pure; their order does not matter.

    With `masks="ng_only"` a good picture without a mask is a pair as well. Raises SourceError where the
    layout is not that of a source, a class has no images, or all masks of a class are missing.
    """
    needed = LABELS if masks == "all" else ("NG",)
    found: dict[tuple[str, str], tuple[list[Object], list[Object]]] = defaultdict(lambda: ([], []))
    elsewhere = 0
    rejected = []
    for item in sorted(objects):
        if item.key == SPLITS_KEY:
            continue
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
    _check_layout(found, elsewhere + len(rejected), needed)
    pairs: list[tuple[Object, Object | None, Pair]] = []
    for (label, name), (images, drawn) in sorted(found.items()):
        if len(images) == len(drawn) == 1:
            pair = Pair(f"{label}/{name}", label, "accepted", images[0].key, drawn[0].key)
            pairs.append((images[0], drawn[0], pair))
        elif len(images) == 1 and not drawn and label not in needed:
            pairs.append((images[0], None, Pair(f"{label}/{name}", label, "accepted", images[0].key)))
        elif not drawn and label in needed:
            for item in images:
                rejected.append(
                    _rejected(label, name, item, None, "No mask of that name.", f"Add one to {label}_MSK/.")
                )
        elif not images:
            for item in drawn:
                rejected.append(
                    _rejected(label, name, None, item, "No image of that name.", f"Add one to {label}/.")
                )
        else:
            names = ", ".join(item.key for item in images + drawn)
            reason = f"More than one image or mask of the same name: {names}."
            rejected.append(
                _rejected(
                    label,
                    name,
                    images[0],
                    drawn[0] if drawn else None,
                    reason,
                    "Keep one of each, or rename.",
                )
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


def _check_layout(
    found: dict[tuple[str, str], tuple[list[Object], list[Object]]], elsewhere: int, needed: Sequence[str]
) -> None:
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
    for label in needed:
        if not any(masks for (of, _), (_, masks) in found.items() if of == label):
            count = sum(len(images) for (of, _), (images, _) in found.items() if of == label)
            good = "Or set masks=ng_only, where good pictures have no masks." if label == "OK" else ""
            raise SourceError(
                f"The class {label} has no masks.",
                got=f"{count} images in {label}/, no file in {label}_MSK/",
                expected=layout,
                fix=f"Put the masks into {label}_MSK/, each with its image's name. {good}".rstrip(),
            )
