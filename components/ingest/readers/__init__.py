"""The formats that a source's labels may have, and which of them a source has."""

import json
from importlib import import_module
from pathlib import PurePosixPath
from typing import cast
from xml.etree import ElementTree

from defectline.components.common.errors import Corrupt, SourceError, Unreadable
from defectline.components.ingest.readers.base import Listing, Reader

FORMATS = {
    "folders": "folders",
    "csv": "csv_list",
    "mvtec": "mvtec",
    "visa": "visa",
    "kolektor": "kolektor",
    "coco": "coco",
    "labelme": "labelme",
    "cvat": "cvat",
    "voc": "voc",
    "yolo": "yolo",
    "yolo_masks": "yolo_masks",
    "labelstudio": "label_studio",
    "datumaro": "datumaro",
}
"""What `layout=` calls a format → its module here."""
NAMED_MASKS = {"csv", "mvtec", "visa", "kolektor", "voc", "yolo_masks"}
"""Folders of pictures and masks that `folders` may understand as well, but not as exactly."""

SHOWN = 5
"""Annotation files, and keys of one, that a message names."""
MOST_BYTES = 10_000_000
"""Of an annotation file that is looked into for a message."""


def choose(listing: Listing, layout: str = "auto") -> tuple[Reader, str]:
    """The reader of a source, and why it is that one, in a few words.

    `layout` is one of FORMATS, or `auto`. Raises SourceError where none fits, or several do.
    """
    if layout != "auto":
        return _load(layout), f"layout={layout}"
    fitting = {name: (_load(name), why) for name in FORMATS if (why := _load(name).fits(listing))}
    if len(fitting) > 1 and fitting.keys() & NAMED_MASKS and not _four_folders(listing):
        fitting.pop("folders", None)
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise SourceError(
            "The source has labels of more than one layout.",
            got="; ".join(f"{name}: {why}" for name, (_, why) in fitting.items()),
            expected="one layout",
            fix=f"Say which one counts, such as layout={list(fitting)[-1]}, or move the others elsewhere.",
        )
    from defectline.components.ingest.readers import folders

    # Folders alone say little: what has a format of its own may have such as well.
    if why := folders.fits_labels(listing):
        return _load(folders.NAME), why
    raise _none_fits(listing)


def _load(name: str) -> Reader:
    # Imported when it is asked for: some need parsers that others do without.
    return cast(Reader, import_module(f"{__name__}.{FORMATS[name]}"))


def _four_folders(listing: Listing) -> bool:
    return any(item.key.partition("/")[0] in ("OK", "NG") for item in listing.objects)


def _none_fits(listing: Listing) -> SourceError:
    count = len(listing.objects)
    files = "1 file, " if count == 1 else f"{count} files, such as "
    found = [files + listing.objects[0].key if count else "no file"]
    return SourceError(
        "The source has another layout." if count else "The source is empty.",
        got="; ".join(found + _annotations(listing)),
        expected="; or ".join(_load(name).EXPECTED for name in FORMATS),
        fix="Check the URI. Good images in a folder OK/ are enough to begin with, and `defectline sample "
        "DIR` makes an example.",
    )


def _annotations(listing: Listing) -> list[str]:
    """What the first files that may be annotations hold, a few words each."""
    named = [item for item in listing.objects if PurePosixPath(item.key.lower()).suffix in (".json", ".xml")]
    named.sort(key=lambda item: (item.key.count("/"), item.key))
    return [told for item in named[:SHOWN] if item.size <= MOST_BYTES and (told := _held(listing, item.key))]


def _held(listing: Listing, key: str) -> str:
    try:
        data = listing.read(key)
    except (SourceError, Corrupt, Unreadable):
        return ""
    try:
        if key.lower().endswith(".xml"):
            return f"{key} is XML with <{ElementTree.fromstring(data).tag}>"
        value = json.loads(data)
    except (ValueError, ElementTree.ParseError) as error:
        # UnicodeDecodeError shows all bytes.
        told = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        return f"{key} is not whole: {told}"
    if isinstance(value, dict):
        return f"{key} has the keys {', '.join(list(value)[:SHOWN]) or 'of an empty object'}"
    return f"{key} is a list of {len(value)} entries" if isinstance(value, list) else f"{key} holds one value"
