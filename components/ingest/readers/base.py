"""What a reader of a layout of labels gives, whatever the format: the records of a listing.

A reader looks at the listing and at files of annotations, never at pictures: those are read once, later, by
the snapshotter, which checks, packs and splits the pairs of all formats alike.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.errors import Corrupt, SourceError, Unreadable
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.junk import junk

HEAD_BYTES = 65536
CLASSES_KEY = "classes.csv"
"""A file at the source's root that names the values of masks; it may be missing."""
SPLITS_KEY = "splits.csv"
"""A file at the source's root that says which picture goes into which split; it may be missing."""
CORRECTIONS_KEY = "corrections.csv"
"""A file at the source's root with labels that were set right; it may be missing. Its masks lie in
CORRECTIONS_FOLDER."""
CORRECTIONS_FOLDER = "corrections/"
FOR_ALL = (CLASSES_KEY, SPLITS_KEY, CORRECTIONS_KEY)


class Drawing(Protocol):
    """A mask that is drawn from an annotation."""

    @property
    def key(self) -> str:
        """The file that the annotation stands in, relative to the source."""

    @property
    def version(self) -> str:
        """Changes whenever the annotation does: a digest of what is drawn, not of the whole file."""

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        """uint8 (height, width) for an upright picture of this size: numbers of the record's `legend`, 255
        where nothing counts. Raises SourceError for an annotation that does not fit the picture."""


class Painted(NamedTuple):
    """The pixels of a mask file as numbers of its record's legend: a Drawing."""

    key: str
    version: str
    values: NDArray[np.uint8]

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        found = self.values.shape
        if found != (height, width):
            raise SourceError(
                f"Sizes differ: mask {found[1]}×{found[0]}, image {width}×{height}.",
                got=self.key,
                expected=f"{width}×{height}",
                fix="Export the mask again at the image's size.",
            )
        return self.values


class Marked(NamedTuple):
    """What an annotation file says of its picture; the fields are those of Record."""

    label: str
    mask: Drawing | None
    legend: str = ""


class Sidecar(NamedTuple):
    """The annotation file of one picture alone.

    It is read where its picture is, so that a source in which nothing changed needs none of them.
    """

    file: Object
    parse: Callable[[bytes], Marked]
    """From the file's content. Raises SourceError where the picture cannot be used."""
    context: str = ""
    """A digest of what else its meaning follows from, such as a list of names beside it."""

    @property
    def key(self) -> str:
        return self.file.key

    @property
    def version(self) -> str:
        """Of the annotation; that of the file, to read it, is `file.version`."""
        return f"{self.file.version} {self.context}" if self.context else self.file.version

    @property
    def size(self) -> int:
        return self.file.size


class Record(NamedTuple):
    """A picture and where its label comes from."""

    stem: str
    """What the picture is called, unique in the source; the pair's id is `<label>/<stem>`."""
    label: str
    """OK or NG; "" where the mask decides, NG if it marks anything that counts, or the Sidecar says it."""
    image: Object
    mask: Object | Drawing | Sidecar | None = None
    """A file, an annotation, or None where nothing is marked."""
    legend: str = ""
    """As `Pair.legend`; "" where a Sidecar says it."""
    group: str = ""
    """As `Pair.group`."""
    split: str = ""
    """train, validation or test where the layout says so."""
    roi: Object | None = None
    """The picture of its region of interest, which no reader sees."""


def unusable(stem: str, reason: str, fix: str, *, label: str = "", image: str = "", mask: str = "") -> Pair:
    """A row of `Layout.rejected`: a picture or mask (their keys) that cannot be used."""
    names = (f"{label}/{stem}" if label else stem, image, mask)
    # No table can hold bytes that are not UTF-8.
    id, image, mask = (name.encode(errors="backslashreplace").decode() for name in names)
    return Pair(id, label, "rejected", image, mask, reason=reason, fix=fix)


class Layout(NamedTuple):
    """What a reader found in a listing."""

    records: Sequence[Record]
    rejected: list[Pair]
    """What is a pair by its place and cannot be used, with reason and fix."""
    ignored: Counter[str]
    """What the reader left alone: as `count_ignored` counts it."""
    notes: Sequence[str] = ()
    """What was understood otherwise than it stands there, a sentence each."""


class Listing:
    """The objects of a source, and the few files of it that say what the others are.

    `objects` are those of the source's `list_all`, without junk, the files FOR_ALL, which `read_for_all`
    reads for all formats alike, and the masks of corrections; `by_key` has those as well. `ignored` counts
    junk, as `Layout.ignored`.
    """

    def __init__(self, source: Storage, objects: Iterable[Object], masks: str = "all"):
        self.source = source
        self.masks = masks
        """As in IngestSettings."""
        self._heads: dict[str, bytes] = {}
        self.objects: list[Object] = []
        self._for_all: list[Object] = []
        parts: dict[str, str] = {}
        ordered = sorted(objects)
        corrected = any(item.key == CORRECTIONS_KEY for item in ordered)
        for item in ordered:
            part, kind = junk(item.key)
            if kind:
                parts[part] = kind
            elif item.key.lower() in FOR_ALL or (corrected and item.key.startswith(CORRECTIONS_FOLDER)):
                self._for_all.append(item)
            # What consoles put in place of a folder is not a file.
            elif not item.key.endswith("/"):
                self.objects.append(item)
        self.ignored = Counter(parts.values())

    @cached_property
    def by_key(self) -> Mapping[str, Object]:
        return {item.key: item for item in (*self.objects, *self._for_all)}

    def head(self, key: str) -> bytes:
        """The first HEAD_BYTES of a file, which readers ask for to know a format; b"" where it is gone."""
        if key not in self._heads:
            try:
                self._heads[key] = self.read(key)[:HEAD_BYTES]
            except (SourceError, Corrupt, Unreadable):
                self._heads[key] = b""
        return self._heads[key]

    def read_for_all(self, key: str) -> bytes | None:
        """The bytes of one of FOR_ALL; None where the source has no such file.

        Raises SourceError where it has one that differs in upper and lower case.
        """
        if key not in self.by_key:
            if alike := sorted(item.key for item in self._for_all if item.key.lower() == key):
                raise SourceError(
                    f"{alike[0]} would be ignored.",
                    got=alike[0],
                    expected=f"{key}, in lower case, or no such file",
                    fix=f"Rename it to {key}, or remove it.",
                )
            return None
        return self.read(key)

    def read(self, key: str) -> bytes:
        """The bytes of an annotation file, as it was listed. Raises SourceError where it is gone."""
        listed = self.by_key[key]
        try:
            return self.source.read(key, listed.version)
        except KeyError:
            raise SourceError(
                f"{key} was replaced or deleted before it was read.",
                got="no such file, or another version of it",
                expected="a source that does not change meanwhile",
                fix="Run again.",
            ) from None


class Reader(Protocol):
    """A module or object for one format."""

    NAME: str
    """What `layout=` calls it."""
    EXPECTED: str
    """The layout in a few words, for messages."""

    def fits(self, listing: Listing) -> str:
        """Why the listing is this reader's, in a few words ("annotations.json is COCO"); "" where it is not.

        Quick: it may read the head of a few files, and raises nothing.
        """

    def read(self, listing: Listing) -> Layout:
        """The records. Raises SourceError where the annotations or the layout cannot be used."""
