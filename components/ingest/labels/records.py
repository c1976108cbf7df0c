"""What a source's labels are: which layout it has, and its records as the snapshotter takes them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE
from defectline.components.common.errors import DefectlineError
from defectline.components.common.legend import is_black_white, read_areas
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, check_key
from defectline.components.ingest.junk import describe
from defectline.components.ingest.labels.class_file import parse_class_file
from defectline.components.ingest.labels.corrections import correct, read_corrections
from defectline.components.ingest.labels.unmasked import check_masks
from defectline.components.ingest.readers import choose
from defectline.components.ingest.readers.base import CLASSES_KEY, Drawing, Layout, Listing, Record, Sidecar
from defectline.components.ingest.roi import Regions
from defectline.components.ingest.settings import IngestSettings

BY_FOLDERS = ("folders", "mvtec", "kolektor")
"""Layouts in which nothing but its place says what a file is."""


class Labels(NamedTuple):
    """The labels of a source."""

    format: str
    """As in FORMATS."""
    why: str
    """Why it is that one."""
    layout: Layout

    @property
    def lines(self) -> list[str]:
        """What is said about them, a line each."""
        ignored = [f"ignored {describe(self.layout.ignored)}"] if self.layout.ignored else []
        return [f"layout {self.format}: {self.why}", *self.layout.notes, *ignored]


def find_labels(listing: Listing, settings: IngestSettings, regions: Regions) -> Labels:
    """The labels of what was listed, `regions` apart. Raises SourceError where the layout cannot be used."""
    reader, why = choose(listing, settings.layout)
    layout = correct(reader.read(listing), read_corrections(listing), listing.by_key)
    legend = _class_file(listing)
    seen = Counter((record.label, record.stem) for record in layout.records)
    records, rejected = [], list(layout.rejected)
    for found in layout.records:
        record = found._replace(roi=regions.of(found.image.key, found.stem))
        if reason := _unusable(record, seen):
            rejected.append(_rejected(record, reason, "Rename the file."))
        else:
            named = legend and not record.legend and isinstance(record.mask, Object)
            records.append(record._replace(legend=legend) if named else record)
    ignored = layout.ignored + listing.ignored
    pictures = [(record.image.key, record.stem) for record in layout.records]
    pictures += [(row.image_key, row.id.removeprefix(f"{row.label}/")) for row in layout.rejected]
    notes = [*layout.notes, *regions.tell_unused(pictures)]
    layout = Layout(records, rejected, ignored, notes)
    check_masks(listing, layout, () if reader.NAME in BY_FOLDERS else {image for image, _ in pictures})
    return Labels(reader.NAME, why, layout)


def _class_file(listing: Listing) -> str:
    data = listing.read_for_all(CLASSES_KEY)
    return "" if data is None else parse_class_file(data)


def _unusable(record: Record, seen: Mapping[tuple[str, str], int]) -> str:
    """Why a record's names cannot be used; "" where they can."""
    if seen[record.label, record.stem] > 1:
        return f"More than one picture is called {_printable(record.stem)}."
    try:
        for key in (record.image.key, mask_key(record), record.stem):
            check_key(key or "none").encode()
    except (DefectlineError, UnicodeEncodeError):
        return "Its name has an empty part, a backslash, a control character, .. or is not UTF-8."
    return ""


def _rejected(record: Record, reason: str, fix: str) -> Pair:
    pair = to_pair(record)._replace(status="rejected", reason=reason, fix=fix)
    return pair._replace(
        id=_printable(pair.id), image_key=_printable(pair.image_key), mask_key=_printable(pair.mask_key)
    )


def _printable(name: str) -> str:
    """The name with `\\xff` for what is not UTF-8, which no table can hold."""
    return name.encode(errors="backslashreplace").decode()


def mask_key(record: Record) -> str:
    return record.mask.key if record.mask else ""


def to_pair(record: Record) -> Pair:
    """What is known of a record before it is read. Without a label its id has none either."""
    return Pair(
        id_of(record),
        record.label,
        "accepted",
        image_key=record.image.key,
        mask_key=mask_key(record),
        image_version=record.image.version,
        mask_version=_mask_version(record),
        legend=record.legend,
        group=record.group,
    )


State = tuple[str, str, str, str]
"""Key and version of a picture, and of its mask: while it is the same, nothing needs to be read again."""


def state_of(one: Record | Pair) -> State:
    if isinstance(one, Pair):
        return one.image_key, one.image_version, one.mask_key, one.mask_version
    return one.image.key, one.image.version, mask_key(one), _mask_version(one)


def id_of(record: Record) -> str:
    """Of the pair, as far as it is known before it is read."""
    return f"{record.label}/{record.stem}" if record.label else record.stem


def _mask_version(record: Record) -> str:
    own = record.mask.version if record.mask else ""
    # Another region is another mask.
    return f"{own} {record.roi.key} {record.roi.version}".lstrip() if record.roi else own


def file_of(mask: Object | Drawing | Sidecar | None) -> Object | None:
    """What is read with a picture, beside it."""
    return mask.file if isinstance(mask, Sidecar) else mask if isinstance(mask, Object) else None


def with_files(record: Record, image: Object, file: Object | None) -> Record:
    """The record with its files as they are now."""
    mask = record.mask
    if isinstance(mask, Sidecar) and file:
        return record._replace(image=image, mask=mask._replace(file=file))
    return record._replace(image=image, mask=file if isinstance(mask, Object) else mask)


def marked(record: Record, pair: Pair, file: bytes) -> tuple[Pair, bytes | Drawing | None]:
    """The pair with what its annotation says, and its mask's bytes, what draws it, or None without a mask.

    `file` is the content of `file_of` the record's mask. Raises SourceError for an annotation that cannot be
    used.
    """
    if not isinstance(record.mask, Sidecar):
        return pair, file if isinstance(record.mask, Object) else record.mask
    label, drawing, legend = record.mask.parse(file)
    id = f"{label}/{record.stem}" if label else record.stem
    # A defect that was seen and not drawn may be anywhere.
    nothing = None if label == "NG" else Nothing(pair.mask_key)
    return pair._replace(id=id, label=label, legend=legend), drawing or nothing


@dataclass
class Nothing:
    """A Drawing of an annotation that marks nothing."""

    key: str
    version: str = ""

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        return np.zeros((height, width), np.uint8)


def reads_alike(old: Pair, record: Record, numbered: bool) -> bool:
    """Whether the mask that was read for `old` would be read as the same values now. Pure.

    `numbered` says whether masks that nothing names hold numbers of classes.
    """
    if record.mask and not isinstance(record.mask, Object):
        return record.legend in ("", old.legend)
    # Of a mask in an index of before classes nothing says whether white or 1 marks its defects.
    names_numbers = record.legend.startswith("[")
    if (numbered or names_numbers) and old.defect_px and not old.areas:
        return False
    if names_numbers:
        return not is_black_white(old)
    return old.areas == "0" or set(read_areas(old)) != {IGNORE}
