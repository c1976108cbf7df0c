"""Taking a snapshot: list, pair, read what is new, check, pack, split, and publish the index last."""

import csv
import io
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.errors import Corrupt, SourceError
from defectline.components.common.snapshot import (
    Pair,
    Snapshot,
    find_head,
    move_head,
    publish_snapshot,
    read_pairs,
    read_snapshot,
    software,
)
from defectline.components.common.steps import say, track
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.checks import check_pair, reject, reject_duplicates
from defectline.components.ingest.groups import NO_PATTERN, check_sides, name_groups, present, say_groups
from defectline.components.ingest.junk import describe
from defectline.components.ingest.packing import Packer, clear_journal, lost_packs, packed_as, read_journal
from defectline.components.ingest.readers.base import Listing
from defectline.components.ingest.readers.folders import FOLDERS, Paired, pair_objects
from defectline.components.ingest.split_file import Listed, known_splits, read_split_file
from defectline.components.ingest.splits import assign_splits

READERS = 16
DECODERS = 4
"""Pictures decoded at once. Each takes about ten bytes a pixel, and the step has 2 GiB."""
AHEAD_BYTES = 256_000_000
"""Files read and not yet packed: one that is slow must not make the others pile up."""
ROUNDS = 5
"""How often a source that changes while it is read is listed again."""

NOTED_FIX = "None is needed; look in pictures.html whether the outline fits."

Unread = tuple[Object, Object | None, Pair]


class TooManyRejected(SourceError):
    """More pairs than allowed were rejected; `rows` are all that were read, without splits."""

    rows: list[Pair]


class Read(NamedTuple):
    """A checked pair, with its files where it was accepted."""

    pair: Pair | None
    """None where a file is gone."""
    files: tuple[bytes, bytes] = (b"", b"")
    as_listed: bool = True


def take_snapshot(
    source: Storage,
    store: Storage,
    max_rejected: float,
    quarantine_key: str,
    masks: str = "all",
    group_by: str = NO_PATTERN,
) -> Snapshot:
    """Bring the source's present state into the store, and return the snapshot of it.

    Files that an earlier snapshot packed, by key and version, are not read again, nor those that a run
    packed which was cut off; what is packed already, by content, is not packed again. A source that
    changes while it is read is listed again. `masks` and `group_by` are those of IngestSettings. The
    quarantine table is written even where too many pairs were rejected, which raises TooManyRejected; a
    wrong layout, an empty class, too few pairs and a split file that cannot be followed raise SourceError,
    another run that published a snapshot meanwhile Conflict. No pair of an older snapshot changes.
    """
    paired, listed = _list(source, masks)
    # Again later: this one shows before the long reading whether the store can be written.
    store.write(quarantine_key, quarantine_table(paired.rejected))
    head = find_head(store)
    earlier = read_pairs(store, head.snapshot) if head.snapshot else []
    cut_off = read_journal(store, source.uri)
    if lost := lost_packs(store, earlier + cut_off):
        say(f"{len(lost)} packs have left the store or were cut short: their pictures are read again")
        earlier, cut_off = _forget(earlier, lost), _forget(cut_off, lost)
    known = _known(store, head.snapshot, earlier, cut_off, source.uri)
    for _ in range(ROUNDS):
        rows, complete = _read_new(paired, source, store, known, earlier)
        known |= {_state(row): row for row in rows if row.image_sha256}
        if complete:
            break
        say("files were replaced or deleted while they were read: listing the source again")
        paired, listed = _list(source, masks)
    else:
        raise SourceError(
            "The source changes faster than it can be read.",
            got=f"files that were replaced or deleted in each of {ROUNDS} rounds",
            expected="files that stay as they are for some minutes",
            fix="Let the program that writes them finish first, or write each under a name of its own.",
        )
    rows = reject_duplicates(rows, {p.pixel_sha256: p.id for p in earlier if p.accepted})
    store.write(quarantine_key, quarantine_table(rows))
    if noted := sum(row.accepted and bool(row.note) for row in rows):
        say(f"{noted} pairs were changed to be used; the quarantine table says how")
    _check_rejected(rows, max_rejected, store.url(quarantine_key))
    decided = {p.pixel_sha256: p.split for p in earlier if p.split}
    there = {p.pixel_sha256 for p in rows if p.accepted}
    rows += [p._replace(status="absent") for p in earlier if p.split and p.pixel_sha256 not in there]
    rows = name_groups(rows, {pair.id: pair.group for *_, pair in paired.pairs}, listed, group_by)
    say_groups(rows)
    rows = assign_splits(rows, known_splits(listed, present(rows), decided))
    check_sides(rows, listed, decided)
    snapshot = publish_snapshot(store, rows, source.uri)
    # A reader that follows the head finds a snapshot that is complete.
    move_head(store, head, snapshot.id)
    clear_journal(store, source.uri)
    return snapshot


State = tuple[str, str, str, str]


def _state(pair: Pair) -> State:
    return pair.image_key, pair.image_version, pair.mask_key, pair.mask_version


def _forget(rows: list[Pair], lost: set[str]) -> list[Pair]:
    """The rows, those in lost packs as if their files had never been read."""
    return [row._replace(pack="", image_sha256="") if row.pack in lost else row for row in rows]


def _known(
    store: Storage, head: str | None, earlier: list[Pair], cut_off: list[Pair], source: str
) -> dict[State, Pair]:
    """What was read before of this source, as it was judged before duplicates and splits."""
    rows = [row for row in earlier if row.status != "absent"]
    if head:
        snapshot = read_snapshot(store, head)
        if snapshot.source != source:
            rows = []
        elif snapshot.software != software():
            # Another version may judge otherwise what was rejected.
            rows = [row for row in rows if row.pack]
    if cut_off:
        say(f"{len(cut_off):,} pairs are there already, from runs that published no snapshot")
    return {_state(row): _undecided(row) for row in rows + cut_off if row.image_sha256}


def _undecided(row: Pair) -> Pair:
    """A row without what depends on other rows: a picture that it repeated may be gone."""
    row = row._replace(split="")
    return row._replace(status="accepted", reason="", fix="") if row.pack else row


def _list(source: Storage, masks: str) -> tuple[Paired, list[Listed]]:
    listing = Listing(source, source.list_all())
    listed = read_split_file(source, listing.objects)
    paired = pair_objects(listing.objects, masks)
    if listing.ignored:
        say(f"ignored, for they are not data: {describe(listing.ignored)}")
    if paired.elsewhere:
        say(f"ignored {paired.elsewhere} files outside of {', '.join(f'{name}/' for name in FOLDERS)}")
    return paired, listed


def _versioned(pair: Pair, image: Object, mask: Object | None) -> Pair:
    return pair._replace(image_version=image.version, mask_version=mask.version if mask else "")


def _find(source: Storage, listed: Object) -> Object | None:
    """The object as it is now, or None where it is gone."""
    return next((found for found in source.list(listed.key) if found.key == listed.key), None)


def _read_new(
    paired: Paired, source: Storage, store: Storage, known: dict[State, Pair], earlier: list[Pair]
) -> tuple[list[Pair], bool]:
    """Read and pack what is not known. Returns all rows, and whether all files were as they were listed."""
    rows, unread = list(paired.rejected), []
    for image, mask, pair in paired.pairs:
        pair = _versioned(pair, image, mask)
        if old := known.get(_state(pair)):
            rows.append(old)
        else:
            unread.append((image, mask, pair))
    if not unread:
        return rows, True
    packs = {packed_as(row): row.pack for row in (*earlier, *rows) if row.pack}
    complete = True
    with tempfile.TemporaryDirectory() as folder, Packer(store, source.uri, Path(folder)) as packer:
        for read, files, as_listed in track(_read(source, unread), len(unread), "reading pairs"):
            complete &= as_listed
            if read is None:
                continue
            if not read.accepted:
                packer.note(read)
            elif pack := packs.get(packed_as(read)):
                packer.note(read._replace(pack=pack))
            else:
                packer.add(read, *files)
    return rows + packer.rows, complete


def _read(source: Storage, unread: list[Unread]) -> Iterator[Read]:
    """Read and check pairs, several at once, in the order of their ids."""
    decoding = threading.Semaphore(DECODERS)

    def read(item: Unread, attempts: int = ROUNDS) -> Read:
        image, mask, pair = item
        try:
            files = (
                source.read(image.key, image.version),
                source.read(mask.key, mask.version) if mask else b"",
            )
        except KeyError:
            # In its place among the others the new version is packed as if it had always been there.
            image_now, mask_now = _find(source, image), _find(source, mask) if mask else None
            if image_now is None or (mask and mask_now is None) or attempts == 1:
                return Read(None, as_listed=False)
            new = image_now, mask_now, _versioned(pair, image_now, mask_now)
            return read(new, attempts - 1)._replace(as_listed=False)
        except Corrupt as error:
            return Read(reject(pair, error.what, error.fix))
        with decoding:
            pair = check_pair(pair, *files)
        return Read(pair, files) if pair.accepted else Read(pair)

    pending: deque[tuple[int, Future[Read]]] = deque()
    ahead = 0
    with ThreadPoolExecutor(READERS) as readers:
        try:
            for item in sorted(unread, key=lambda item: item[2].id):
                size = item[0].size + (item[1].size if item[1] else 0)
                while pending and (ahead + size > AHEAD_BYTES or len(pending) >= 8 * READERS):
                    ahead -= pending[0][0]
                    yield pending.popleft()[1].result()
                pending.append((size, readers.submit(read, item)))
                ahead += size
            while pending:
                yield pending.popleft()[1].result()
        finally:
            # After an error what has not begun is not waited for.
            readers.shutdown(cancel_futures=True)


def quarantine_table(rows: Iterable[Pair]) -> bytes:
    """The rejected pairs as CSV, and after them the accepted ones that were changed to be used."""
    rows = sorted(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "image", "mask", "status", "reason", "fix"))
    for row in rows:
        if row.status == "rejected":
            writer.writerow((row.id, row.image_key, row.mask_key, "rejected", row.reason, row.fix))
    for row in rows:
        if row.accepted and row.note:
            writer.writerow((row.id, row.image_key, row.mask_key, "noted", row.note, NOTED_FIX))
    return out.getvalue().encode()


def _check_rejected(rows: list[Pair], max_rejected: float, table: str) -> None:
    rejected = sorted(row for row in rows if row.status == "rejected")
    if len(rejected) > max_rejected * len(rows):
        reasons = "; ".join(f"{row.id}: {row.reason}" for row in rejected[:3])
        error = TooManyRejected(
            f"{len(rejected)} of {len(rows)} pairs are unusable.",
            got=reasons + (" …" if len(rejected) > 3 else ""),
            expected=f"at most {max_rejected:.1%} (max_rejected={max_rejected:g})",
            fix=f"Fix what {table} lists and pictures.html next to it shows, or raise max_rejected.",
        )
        error.rows = rows
        raise error
