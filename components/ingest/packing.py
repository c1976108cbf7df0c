"""Packs, filled in the order of ids while pairs are read, and the journal of what they hold.

A run that is cut off leaves whole packs, and a journal below snapshots/journal/ that says what is in them;
the next run goes on from there. A snapshot that is published takes the journal away.
"""

import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Self

from defectline.components.common.layout import PACKS, journal_prefix, pack_key
from defectline.components.common.snapshot import Pair, pack_name, parse_index, write_index
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.common.storage.base import local_file
from defectline.components.common.storage.rows import NONE

PACK_BYTES = 64_000_000
"""Of files in a pack: as much as a run that is cut off loses."""


def packed_as(pair: Pair) -> tuple[str, str, str, str]:
    """What two pairs share that a pack needs to hold once only."""
    return pair.member("image"), pair.image_sha256, pair.member("mask"), pair.mask_sha256


class Packer:
    """Takes pairs in the order of their ids, and uploads each pack when it is full.

    A context manager: leaving it uploads the last pack, or leaves it away after an error. `rows` are then
    all pairs that it was given, with their packs. `folder` holds the pack that is being filled. With
    `to_the_end` the journal names pairs, too, after which no pack was begun.
    """

    def __init__(self, store: Storage, source: str, folder: Path, to_the_end: bool = False):
        self.rows: list[Pair] = []
        self._store, self._source, self._folder = store, source, folder
        self._to_the_end = to_the_end
        self._path = folder / "pack.tar"
        self._open()

    def _open(self) -> None:
        self._waiting: list[Pair] = []
        self._packed: list[Pair] = []
        self._bytes = 0
        with local_file(self._path):
            self._tar = tarfile.TarFile(self._path, "w", format=tarfile.GNU_FORMAT)

    def add(self, pair: Pair, image: bytes, mask: bytes) -> None:
        """Put a pair's files into the pack."""
        if self._packed and self._bytes + len(image) + len(mask) > PACK_BYTES:
            self._upload()
            self._open()
        with local_file(self._path):
            for kind, data in zip(pair.kinds, (image, mask), strict=False):
                # Times and owners stay zero, so that the same pairs always give the same pack.
                info = tarfile.TarInfo(pair.member(kind))
                info.size = len(data)
                self._tar.addfile(info, io.BytesIO(data))
        self._packed.append(pair)
        self._bytes += len(image) + len(mask)

    def note(self, pair: Pair) -> None:
        """Keep a pair that needs no place in a pack: rejected, or packed before."""
        self._waiting.append(pair)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._upload()
        else:
            with suppress(OSError):
                self._tar.close()

    def _upload(self) -> None:
        with local_file(self._path):
            self._tar.close()
        done = self._waiting
        if self._packed:
            name = pack_name(self._path)
            self._store.upload(self._path, pack_key(name))
            done = done + [pair._replace(pack=name) for pair in self._packed]
            # After the pack: what the journal names is there.
            self._note(done, name)
        elif done and self._to_the_end:
            self._note(done, "")
        self.rows += done

    def _note(self, rows: list[Pair], name: str) -> None:
        """Write the rows into the journal, by the name of their pack; those without one by their own."""
        index = self._folder / "journal.parquet"
        with local_file(index):
            write_index(index, rows)
            name = name or pack_name(index)
        self._store.upload(index, f"{journal_prefix(self._source)}{name}.parquet")


def read_journal(store: Storage, source: str, there_already: Mapping[str, str] = NONE) -> list[Pair]:
    """What runs on this source packed that were cut off before they published a snapshot.

    `there_already` is as for `parse_rows`.
    """
    rows = []
    for found in store.list(journal_prefix(source)):
        try:
            rows += parse_index(store.read(found.key), there_already)
        except ValueError as error:
            # It only saves time: what it would have told is read again.
            say(f"{store.url(found.key)} is damaged and ignored: {error}")
    return rows


def lost_packs(store: Storage, *several: Iterable[Pair]) -> set[str]:
    """The packs of these rows that are missing in the store, or smaller than the files that they hold."""
    there = {PurePosixPath(found.key).stem: found.size for found in store.list(PACKS)}
    needed: Counter[str] = Counter()
    for row in chain(*several):
        if row.pack:
            needed[row.pack] += row.image_bytes + row.mask_bytes
    return {pack for pack, size in needed.items() if there.get(pack, 0) < size}


def clear_journal(store: Storage, source: str) -> None:
    for found in list(store.list(journal_prefix(source))):
        store.delete(found.key)
