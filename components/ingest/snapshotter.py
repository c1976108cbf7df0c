"""Taking a snapshot: list, pair, read what is new, check, pack, split, and publish the index last."""

import tempfile
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.classes import IGNORE
from defectline.components.common.errors import Corrupt, SourceError, StoreError, Unreadable
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.legend import class_names, name_values, read_areas
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
from defectline.components.common.storage import Object, Storage, open_storage
from defectline.components.ingest.checks import check_pair, judge, reject, reject_duplicates
from defectline.components.ingest.grouping.groups import (
    NO_PATTERN,
    assign_sides,
    check_sides,
    name_groups,
    present,
    say_groups,
)
from defectline.components.ingest.grouping.masks import find_contradictions, tell_contradictions
from defectline.components.ingest.grouping.twins import join_twins
from defectline.components.ingest.labels.records import (
    Labels,
    file_of,
    find_labels,
    marked,
    reads_alike,
    to_pair,
    with_files,
)
from defectline.components.ingest.labels.telling import (
    quarantine_table,
    say_checked,
    say_classes,
    say_regions,
)
from defectline.components.ingest.official import official_splits
from defectline.components.ingest.packing import Packer, clear_journal, lost_packs, packed_as, read_journal
from defectline.components.ingest.readers.base import Layout, Listing, Record, Sidecar
from defectline.components.ingest.roi import RegionReader, part_regions
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.split_file import Listed, known_splits, read_split_file
from defectline.components.ingest.splits import ENOUGH

READERS = 16
DECODERS = 4
"""Pictures decoded at once. Each takes about ten bytes a pixel, and the step has 2 GiB."""
AHEAD_BYTES = 256_000_000
"""Files read and not yet packed: one that is slow must not make the others pile up."""
ROUNDS = 5
"""How often a source that changes while it is read is listed again."""
ALIKE = 20
"""So many first pairs that cannot be read, all for one reason, are a matter of the whole source."""

DEFAULTS = IngestSettings()

Unread = tuple[Record, Pair]


class TooManyRejected(SourceError):
    """More pairs than allowed were rejected; `rows` are all that were read, without splits."""

    rows: list[Pair]
    labels: Labels


class Read(NamedTuple):
    """A checked pair, with its files where it was accepted."""

    pair: Pair | None
    """None where a file is gone."""
    files: tuple[bytes, bytes] = (b"", b"")
    as_listed: bool = True
    error: StoreError | None = None
    """Why a file could not be read."""


class Taken(NamedTuple):
    """A snapshot, and what the source's labels were."""

    snapshot: Snapshot
    labels: Labels


def take_snapshot(
    source: Storage, store: Storage, quarantine_key: str, settings: IngestSettings = DEFAULTS
) -> Taken:
    """Bring the source's present state into the store: the snapshot of it, and what its labels are.

    Files that an earlier snapshot packed, by key and version, are not read again, nor those that a run
    packed which was cut off; what is packed already, by content, is not packed again. A source that
    changes while it is read is listed again. The quarantine table is written even where too many pairs were
    rejected, which raises TooManyRejected; a wrong layout, an empty class, too few pairs and a split file
    that cannot be followed raise SourceError, another run that published a snapshot meanwhile Conflict. No
    pair of an older snapshot changes.
    """
    labels, listed = list_source(source, store.uri, settings)
    for line in labels.lines:
        say(line)
    # Again later: this one shows before the long reading whether the store can be written.
    store.write(quarantine_key, quarantine_table(labels.layout.rejected))
    head = find_head(store)
    earlier = read_pairs(store, head.snapshot) if head.snapshot else []
    cut_off = read_journal(store, source.uri)
    if lost := lost_packs(store, earlier + cut_off):
        say(f"{len(lost)} packs have left the store or were cut short: their pictures are read again")
        earlier, cut_off = _forget(earlier, lost), _forget(cut_off, lost)
    before = read_snapshot(store, head.snapshot) if head.snapshot else None
    known = _known(before, earlier, cut_off, source.uri)
    for _ in range(ROUNDS):
        rows, complete = _read_new(labels.layout, source, store, known, earlier, settings.classes)
        known |= {_state(row): row for row in rows if row.image_sha256}
        if complete:
            break
        say("files were replaced or deleted while they were read: listing the source again")
        labels, listed = list_source(source, store.uri, settings)
    else:
        raise SourceError(
            "The source changes faster than it can be read.",
            got=f"files that were replaced or deleted in each of {ROUNDS} rounds",
            expected="files that stay as they are for some minutes",
            fix="Let the program that writes them finish first, or write each under a name of its own.",
        )
    rows = name_values(reject_duplicates(rows, {p.pixel_sha256: p.id for p in earlier if p.accepted}))
    store.write(quarantine_key, quarantine_table(rows))
    say_checked(rows)
    _check_rejected(rows, labels, settings.max_rejected, store.url(quarantine_key))
    _check_labels(rows, earlier)
    decided = {p.pixel_sha256: p.split for p in earlier if p.split}
    there = {p.pixel_sha256 for p in rows if p.accepted}
    rows += [p._replace(status="absent") for p in earlier if p.split and p.pixel_sha256 not in there]
    rows = name_groups(rows, listed, settings.group_by)
    if settings.group_by == NO_PATTERN:
        rows = join_twins(rows, earlier)
    if contradictions := find_contradictions(rows):
        say(tell_contradictions(contradictions))
    splits = known_splits(listed, present(rows), decided)
    official = official_splits(labels.layout.records, rows, splits)
    for note in official.notes:
        say(note)
    rows = assign_sides(rows, {**official.splits, **splits}, settings.classes)
    say_groups(rows)
    check_sides(rows, listed, decided)
    classes = class_names(rows, settings.classes, before.classes if before else ())
    say_classes(rows, classes, settings.classes)
    say_regions(rows)
    snapshot = publish_snapshot(store, rows, source.uri, classes, settings.classes, earlier)
    # A reader that follows the head finds a snapshot that is complete.
    move_head(store, head, snapshot.id)
    clear_journal(store, source.uri)
    return Taken(snapshot, labels)


def _check_labels(rows: list[Pair], earlier: list[Pair]) -> None:
    """Raise SourceError where all pictures of a label left; say so where there never were any, or few."""
    have, had = (Counter(row.label for row in of if row.accepted) for of in (rows, earlier))
    for label, what in (("OK", "good"), ("NG", "defective")):
        if had[label] and not have[label]:
            raise SourceError(
                f"No {what} picture of the source is left.",
                got=f"no usable {label} picture, where the snapshot before has {had[label]}",
                expected=f"{what} pictures, as before",
                fix="Bring them back, or start a new store if it shall be trained without.",
            )
    if not have["OK"]:
        say("the source has no good pictures: how many of them would be rejected cannot be judged")
    elif have["NG"] < ENOUGH:
        few = f"{have['NG']} defective pictures, which all train" if have["NG"] else "no defective picture"
        unusable = sum(row.status == "rejected" and row.label == "NG" for row in rows)
        few += f" that can be used ({unusable} rejected)" if unusable else ""
        say(f"the source has {few}: how many would escape cannot be judged")


State = tuple[str, str, str, str]


def _state(pair: Pair) -> State:
    return pair.image_key, pair.image_version, pair.mask_key, pair.mask_version


def _forget(rows: list[Pair], lost: set[str]) -> list[Pair]:
    """The rows, those in lost packs as if their files had never been read."""
    return [row._replace(pack="", image_sha256="") if row.pack in lost else row for row in rows]


def _known(
    before: Snapshot | None, earlier: list[Pair], cut_off: list[Pair], source: str
) -> dict[State, Pair]:
    """What was read before of this source, as it was judged before duplicates and splits."""
    rows = [row for row in earlier if row.status != "absent"]
    if before:
        if before.source != source:
            rows = []
        elif before.software != software():
            # Another version may judge otherwise what was rejected.
            rows = [row for row in rows if row.pack]
    if cut_off:
        say(f"{len(cut_off):,} pairs are there already, from runs that published no snapshot")
    # What an older version packed has no look yet.
    read = (row for row in rows + cut_off if row.image_sha256 and (row.look or not row.pack))
    return {_state(row): _undecided(row) for row in read}


def _undecided(row: Pair) -> Pair:
    """A row without what depends on other rows: a picture that it repeated may be gone."""
    row = row._replace(split="")
    return _accepted(row) if row.pack else row


def _accepted(row: Pair) -> Pair:
    return row._replace(status="accepted", reason="", fix="")


def list_source(source: Storage, store: str, settings: IngestSettings) -> tuple[Labels, list[Listed]]:
    """What the source's labels are, and its rows of splits.csv; raises as `take_snapshot`."""
    own = f"{open_storage(store).uri.rstrip('/')}/".removeprefix(f"{source.uri.rstrip('/')}/")
    # A store may lie in the source; what it holds is not data.
    regions, objects = part_regions(found for found in source.list_all() if not found.key.startswith(own))
    listing = Listing(source, objects, settings.masks)
    listed = read_split_file(listing)
    return find_labels(listing, settings, regions), listed


def _find(source: Storage, listed: Object) -> Object | None:
    """The object as it is now, or None where it is gone."""
    return next((found for found in source.list(listed.key) if found.key == listed.key), None)


def _read_new(
    layout: Layout,
    source: Storage,
    store: Storage,
    known: dict[State, Pair],
    earlier: list[Pair],
    class_map: Mapping[str, str],
) -> tuple[list[Pair], bool]:
    """Read and pack what is not known. Returns all rows, and whether all files were as they were listed."""
    unnamed = [one for one in layout.records if isinstance(one.mask, Object) and not one.legend]
    numbered = _hold_numbers(known.get(_state(to_pair(one))) for one in unnamed)
    rows, unread = list(layout.rejected), []
    for record in layout.records:
        pair = to_pair(record)
        old = known.get(_state(pair))
        if old and (row := _again(old, record, pair, class_map, numbered)):
            rows.append(row)
        else:
            unread.append((record, pair))
    if not unread:
        return rows, True
    packs = {packed_as(row): row.pack for row in (*earlier, *rows) if row.pack}
    complete = True
    with tempfile.TemporaryDirectory() as folder, Packer(store, source.uri, Path(folder)) as packer:
        reading = _read(source, store, unread, class_map, numbered)
        for read, files, as_listed, _ in track(_stop_early(reading), len(unread), "reading pairs"):
            complete &= as_listed
            if read is None:
                continue
            if not read.accepted:
                packer.note(read)
            elif pack := packs.get(packed_as(read)):
                packer.note(read._replace(pack=pack))
            else:
                packer.add(read, *files)
    if unnamed and not numbered and _hold_numbers(row for row in packer.rows if not row.legend):
        # What was read before that was known is judged again.
        known = known | {_state(row): row for row in packer.rows if row.image_sha256}
        rows, as_listed = _read_new(layout, source, store, known, [*earlier, *packer.rows], class_map)
        return rows, complete and as_listed
    return rows + packer.rows, complete


def _stop_early(reads: Generator[Read, None, None]) -> Iterator[Read]:
    """The same, unless the first of them could not be read, all for one reason: raises what was said."""
    failed: list[StoreError] = []
    other = False
    with closing(reads):
        for read in reads:
            if read.error is None or (failed and read.error.fix != failed[0].fix):
                other = True
            elif not other:
                failed.append(read.error)
                if len(failed) == ALIKE:
                    raise failed[0]
            yield read


def _hold_numbers(rows: Iterable[Pair | None]) -> bool:
    """Whether some mask that no reader names holds more than one class."""
    return any(1 < value < IGNORE for row in rows if row for value in read_areas(row))


def _again(
    old: Pair, record: Record, pair: Pair, class_map: Mapping[str, str], numbered: bool
) -> Pair | None:
    """A row that was read before as it is judged now; None where the files are needed again."""
    if not reads_alike(old, record, numbered):
        return None
    if isinstance(record.mask, Sidecar):
        # What it says is known from there, but not whether it said the label.
        pair = pair._replace(id=old.id, label=old.label, legend=old.legend)
    row = old._replace(id=pair.id, label=pair.label, legend=pair.legend, group=pair.group)
    if not old.accepted and not old.areas:
        return row
    if not old.accepted and old.label == "NG" and old.areas == "{}" and isinstance(record.mask, Sidecar):
        # Whether anything is drawn stands there alone.
        return None
    row = judge(_accepted(row), class_map, numbered, not isinstance(record.mask, Object))
    if isinstance(record.mask, Sidecar) and row.accepted != old.accepted:
        return None
    # A pack has files by their pair's id.
    return None if row.accepted and (not old.pack or row.id != old.id) else row


def _read(
    source: Storage, store: Storage, unread: list[Unread], class_map: Mapping[str, str], numbered: bool
) -> Generator[Read, None, None]:
    """Read and check pairs, several at once, in the order of their ids."""
    regions = RegionReader(source, store)
    decoding = threading.Semaphore(DECODERS)

    def read(item: Unread, attempts: int = ROUNDS) -> Read:
        record, pair = item
        file = file_of(record.mask)
        try:
            image, other = (
                source.read(record.image.key, record.image.version),
                source.read(file.key, file.version) if file else b"",
            )
            roi = regions.read(record.roi)
        except KeyError:
            # In its place among the others the new version is packed as if it had always been there.
            image_now, file_now = _find(source, record.image), _find(source, file) if file else None
            if image_now is None or (file and file_now is None) or attempts == 1:
                return Read(None, as_listed=False)
            new = with_files(record, image_now, file_now)
            return read((new, to_pair(new)), attempts - 1)._replace(as_listed=False)
        except (Corrupt, Unreadable) as error:
            reason = error.what if isinstance(error, Corrupt) else f"{error.what} {error.got}"
            return Read(reject(pair, reason, error.fix), error=error)
        except UnreadableImage as error:
            return Read(reject(pair, f"Region of interest: {error.reason}", error.fix))
        try:
            pair, mask = marked(record, pair, other)
        except SourceError as error:
            return Read(reject(pair, f"Annotation: {error.reason}", error.fix))
        with decoding:
            pair, packed = check_pair(pair, image, mask, class_map, numbered, roi)
        return Read(pair, (image, packed)) if pair.accepted else Read(pair)

    pending: deque[tuple[int, Future[Read]]] = deque()
    ahead = 0
    with ThreadPoolExecutor(READERS) as readers:
        try:
            for item in sorted(unread, key=lambda item: item[1].id):
                record = item[0]
                size = record.image.size + (file.size if (file := file_of(record.mask)) else 0)
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


def _check_rejected(rows: list[Pair], labels: Labels, max_rejected: float, table: str) -> None:
    rejected = sorted(row for row in rows if row.status == "rejected")
    if len(rejected) > max_rejected * len(rows):
        reasons = "; ".join(f"{row.id}: {row.reason}" for row in rejected[:3])
        error = TooManyRejected(
            f"{len(rejected)} of {len(rows)} pairs are unusable.",
            got=reasons + (" …" if len(rejected) > 3 else ""),
            expected=f"at most {max_rejected:.1%} (max_rejected={max_rejected:g})",
            fix=f"Fix what {table} lists and pictures.html next to it shows, or raise max_rejected.",
        )
        error.rows, error.labels = rows, labels
        raise error
