"""A snapshot: one immutable, content-addressed version of a source.

snapshots/<id>/index.parquet    one row a pair: a `Pair`
snapshots/<id>/snapshot.json    a `Snapshot`
snapshots/packs/<digest>.tar    the files themselves, shared by all snapshots (WebDataset names)
snapshots/head.json             {"snapshot": id} of the newest
"""

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.errors import StoreError
from defectline.components.common.layout import (
    HEAD,
    INDEX,
    SNAPSHOT,
    pack_key,
    snapshot_key,
)
from defectline.components.common.storage import Storage
from defectline.components.common.storage.checksums import sha256_file
from defectline.components.common.storage.rows import NONE, parse_rows, write_rows

SPLITS = ("train", "validation", "test")
NO_MAP: Mapping[str, str] = MappingProxyType({})
LINES = 10_000
"""Lines of a digest, at a time."""
ANNOTATIONS = (".json", ".jsonl", ".xml", ".txt", ".csv", ".tsv", ".zip")
"""What files are called that masks are drawn from."""


DISTINCT = frozenset(
    (
        *("id", "image_key", "mask_key", "image_version", "mask_version"),
        *("image_sha256", "mask_sha256", "pixel_sha256", "look"),
    )
)
"""Columns of the index that hold another value in nearly every row."""


class Pair(NamedTuple):
    """One picture with its mask, or what stood where one was expected."""

    id: str
    """`<label>/<stem>`"""
    label: str
    status: str
    """`accepted`; `rejected`, with reason and fix; `absent`: was in an earlier snapshot and left the source
    (the row keeps its split for the day it comes back)"""
    image_key: str = ""
    mask_key: str = ""
    """Empty without a file or annotation; `mask_sha256` too, and where an annotation says NG and no more."""
    image_version: str = ""
    mask_version: str = ""
    image_bytes: int = 0
    mask_bytes: int = 0
    image_sha256: str = ""
    mask_sha256: str = ""
    pixel_sha256: str = ""
    """Over the decoded picture: the same for copies in another format."""
    width: int = 0
    height: int = 0
    defect_px: int = 0
    """Pixels of any class that counts."""
    split: str = ""
    pack: str = ""
    reason: str = ""
    fix: str = ""
    note: str = ""
    """What ingest changed to use an accepted pair, such as a smoothed mask that it split at half."""
    group: str = ""
    """What the pair shares with others of the same part; "" where it stands alone."""
    legend: str = ""
    """The names of the mask's values 1, 2, … as a JSON list; "" where all defects are one class."""
    areas: str = ""
    """How many pixels of the mask hold each value but 0, as a JSON object, in which 255 does not count; a
    number where the mask is black and white."""
    roi: str = ""
    """Digest of its region of interest, outside of which nothing counts or stands in `areas`; "" where all
    does."""
    look: str = ""
    """What ingest finds near twins by: a perceptual hash."""
    marks: str = ""
    """Where its mask marks something, roughly: to find twins with different masks."""

    @property
    def accepted(self) -> bool:
        return self.status == "accepted"

    @property
    def masked(self) -> bool:
        """Whether it is known which pixels are defects: none, in a good picture without a mask."""
        return self.label != "NG" or bool(self.areas or self.defect_px)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The files that this pair consists of."""
        return ("image", "mask") if self.mask_sha256 else ("image",)

    def member(self, kind: str) -> str:
        """The name in the pack of this pair's `image` or `mask`."""
        stem = self.id.partition("/")[2].replace("%", "%25").replace(".", "%2E").replace("/", "%2F")
        suffix = PurePosixPath(self.image_key if kind == "image" else self.mask_key).suffix.lower()
        # What is drawn from an annotation is packed as a picture.
        return f"{self.label}-{stem}.{kind}{'.png' if suffix in ANNOTATIONS else suffix}"

    @property
    def content(self) -> tuple[str, str, str]:
        """What makes a pair the same pair in another snapshot."""
        return self.id, self.image_sha256, self.mask_sha256 + (f" {self.roi}" if self.roi else "")


class Snapshot(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    fingerprint: str
    source: str
    """Where it was taken last; the keys and versions of its index are of this source."""
    earlier_sources: tuple[str, ...] = ()
    """Other sources that were in the same state when they were taken."""
    created: str
    """When it was taken first: ISO 8601, UTC."""
    accepted: int
    rejected: int
    software: str = ""
    """The version of defectline that judged the pairs."""
    classes: tuple[str, ...] = DEFAULT_CLASSES
    """The names of classes 1 to K."""
    class_map: dict[str, str] = {}
    """Names of the source's classes → what they are called here, or `ignore`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources that were in this state, the last one last."""
        return (*self.earlier_sources, self.source)


@cache
def software() -> str:
    """The version of defectline that runs here."""
    return metadata.version("defectline")


def fingerprint(pairs: Iterable[Pair]) -> str:
    """SHA-256 over the sorted lines label, id, SHA-256 of image and of mask of the accepted pairs.

    Nothing else enters, so the same files give the same fingerprint from a folder, S3 and GCS.
    """
    return _digest(
        sorted(f"{p.label}\t{p.id}\t{p.image_sha256}\t{p.mask_sha256}" for p in pairs if p.accepted)
    )


def snapshot_id(
    pairs: Iterable[Pair], classes: Sequence[str] = DEFAULT_CLASSES, class_map: Mapping[str, str] = NO_MAP
) -> str:
    """A digest of everything that a reader of the snapshot can see of its pairs and their classes."""
    rows = ((*p.content, p.status, p.split, p.reason + p.note, p.legend, p.group) for p in pairs)
    lines = sorted("\t".join(row if any(row[-2:]) else row[:-2]) for row in rows)
    if class_map or tuple(classes) != DEFAULT_CLASSES:
        lines += [json.dumps([list(classes), dict(class_map)], sort_keys=True)]
    return _digest(lines)[:16]


def _digest(lines: Sequence[str]) -> str:
    """SHA-256 over the lines with a line feed between each two."""
    digest = hashlib.sha256()
    # A million lines at once would be in memory three times.
    for start in range(0, len(lines), LINES):
        digest.update((("\n" if start else "") + "\n".join(lines[start : start + LINES])).encode())
    return digest.hexdigest()


def write_index(path: Path, pairs: Iterable[Pair]) -> None:
    """Write the rows as Parquet, sorted by id."""
    write_rows(path, Pair, sorted(pairs))


def read_pairs(store: Storage, snapshot: str, there_already: Mapping[str, str] = NONE) -> list[Pair]:
    """Every row of a snapshot, sorted by id. Raises StoreError where there is none, or a damaged one.

    `there_already` is as for `parse_rows`.
    """
    try:
        return parse_index(_read(store, snapshot, INDEX), there_already)
    except ValueError as error:
        raise _damaged(store, snapshot, INDEX, error) from error


def parse_index(data: bytes, there_already: Mapping[str, str] = NONE) -> list[Pair]:
    """The rows that `write_index` wrote. Raises ValueError for anything else."""
    return parse_rows(data, Pair, DISTINCT, there_already)


def read_snapshot(store: Storage, snapshot: str) -> Snapshot:
    """Raises StoreError where there is no such snapshot, or a damaged one."""
    try:
        return Snapshot.model_validate_json(_read(store, snapshot, SNAPSHOT))
    except ValidationError as error:
        raise _damaged(store, snapshot, SNAPSHOT, error.errors()[0]["msg"]) from error


def _damaged(store: Storage, snapshot: str, name: str, what: object) -> StoreError:
    return StoreError(
        f"The snapshot {snapshot} is damaged.",
        got=f"{store.url(snapshot_key(snapshot, name))}: {what}",
        expected="the file that ingest wrote",
        fix="Bring it back from a backup. If there is none, name an older snapshot in "
        f"{store.url(HEAD)}, or remove that file: the next run reads the source again.",
    )


def publish_snapshot(
    store: Storage,
    rows: Sequence[Pair],
    source: str,
    classes: Sequence[str] = DEFAULT_CLASSES,
    class_map: Mapping[str, str] = MappingProxyType({}),
    newest: Sequence[Pair] = (),
) -> Snapshot:
    """Write a snapshot whole; `move_head` then makes it the newest one.

    Where all rows are those of the `newest` snapshot it is there already.
    """
    snapshot = Snapshot(
        id=snapshot_id(rows, classes, class_map),
        classes=tuple(classes),
        class_map=dict(class_map),
        fingerprint=fingerprint(rows),
        source=source,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software=software(),
        accepted=sum(row.accepted for row in rows),
        rejected=sum(row.status == "rejected" for row in rows),
    )
    with suppress(StoreError):
        # The same state again, perhaps of another source: it is as old as it was.
        before = read_snapshot(store, snapshot.id)
        earlier = tuple(one for one in before.sources if one != source)
        snapshot = snapshot.model_copy(update={"created": before.created, "earlier_sources": earlier})
        if snapshot == before and sorted(rows) == sorted(newest):
            return snapshot
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary, INDEX)
        write_index(index, rows)
        store.upload(index, snapshot_key(snapshot.id, INDEX))
    store.write(snapshot_key(snapshot.id, SNAPSHOT), snapshot.model_dump_json(indent=2).encode())
    return snapshot


def _read(store: Storage, snapshot: str, name: str) -> bytes:
    try:
        return store.read(snapshot_key(snapshot, name))
    except KeyError:
        raise StoreError(
            f"The store holds no snapshot {snapshot}.",
            got=f"no {store.url(snapshot_key(snapshot, name))}",
            expected="a snapshot that ingest wrote",
            fix="Check the store's URI. If the folder was removed, name another snapshot in "
            f"{store.url(HEAD)}, or remove that file: the next run reads the source again.",
        ) from None


class Head(NamedTuple):
    """The newest snapshot's id, and the version of head.json that names it; both None in a new store."""

    snapshot: str | None
    version: str | None


def read_head(store: Storage) -> str | None:
    """Id of the newest snapshot, or None in a new store."""
    return find_head(store).snapshot


def find_head(store: Storage) -> Head:
    """The head, for `move_head`. Raises StoreError where head.json is damaged."""
    found = store.read_versioned(HEAD)
    if found is None:
        return Head(None, None)
    head, version = found
    try:
        return Head(json.loads(head)["snapshot"], version)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.url(HEAD)} is damaged.",
            got=repr(head[:60]),
            expected='{"snapshot": "…"}',
            fix="Name the newest folder of snapshots/ in it.",
        ) from error


def move_head(store: Storage, head: Head, snapshot: str) -> None:
    """Make `snapshot` the newest one. Raises Conflict where another one became it since `head` was read."""
    store.compare_and_swap(HEAD, json.dumps({"snapshot": snapshot}).encode(), head.version)


class Span(NamedTuple):
    """Where a file lies in a pack, in bytes."""

    start: int
    size: int

    def read(self, pack: BinaryIO) -> bytes:
        pack.seek(self.start)
        return pack.read(self.size)


class Packed(NamedTuple):
    """A pair, and where its files lie in its pack."""

    pair: Pair
    image: Span
    mask: Span
    """Of size 0 where the pair has no mask."""

    def read(self, pack: BinaryIO) -> tuple[bytes, bytes]:
        """The bytes of image and mask, from the open pack."""
        return self.image.read(pack), self.mask.read(pack)


def by_pack(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """The pairs by their packs, in the order in which `read_files` gives them. Pure."""
    packs: dict[str, list[Pair]] = {}
    for pair in sorted(pairs):
        packs.setdefault(pair.pack, []).append(pair)
    return packs


def find_files(store: Storage, pairs: Iterable[Pair], folder: Path) -> Iterator[tuple[Path, list[Packed]]]:
    """Each pack that holds some of the pairs, checked, with those of them that it holds, sorted by id.

    A pack that is not on this machine is downloaded into `folder`; the caller removes it. Raises
    StoreError for a pack that is missing or not what was packed.
    """
    for pack, members in by_pack(pairs).items():
        path = _fetch_pack(store, pack, folder / f"{pack}.tar")
        with tarfile.open(path) as tar:
            # By name, tarfile would search all members again for each.
            spans = {info.name: Span(info.offset_data, info.size) for info in tar}
        yield (
            path,
            [
                Packed(p, spans[p.member("image")], spans[p.member("mask")] if p.mask_sha256 else Span(0, 0))
                for p in members
            ],
        )


def read_files(store: Storage, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, bytes, bytes]]:
    """Each pair with the bytes of its image and of its mask (b"" where it has none), pack by pack.

    Raises StoreError for a pack that is missing or not what was packed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for path, members in find_files(store, pairs, Path(temporary)):
            with path.open("rb") as pack:
                for packed in members:
                    yield packed.pair, *packed.read(pack)
            if path.parent == Path(temporary):
                path.unlink()


def pack_name(path: Path) -> str:
    """What a pack is called: the start of its SHA-256."""
    return sha256_file(path)[:16]


def _fetch_pack(store: Storage, pack: str, path: Path) -> Path:
    """The checked pack, at `path` or where the store has it on this machine."""
    url = store.url(pack_key(pack))
    try:
        path = store.fetch(pack_key(pack), path)
    except KeyError:
        got = f"no {url}"
    else:
        if pack_name(path) == pack:
            return path
        got = f"{path.stat().st_size} bytes with another checksum in {url}"
    raise StoreError(
        "The store has lost pictures of the snapshot.",
        got=got,
        expected="the pack of pictures that ingest wrote",
        fix="Bring the file back from a backup. If the source still has these pictures, remove the file "
        "instead: the next run packs them again.",
    )
