"""What was read before, by snapshots and by runs that were cut off, and needs not be read again."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from defectline.components.common.classes import IGNORE
from defectline.components.common.legend import read_areas
from defectline.components.common.snapshot import (
    Head,
    Pair,
    Snapshot,
    find_head,
    read_pairs,
    read_snapshot,
    software,
)
from defectline.components.common.steps import say
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.checks import judge
from defectline.components.ingest.labels.records import State, file_of, id_of, reads_alike, state_of
from defectline.components.ingest.packing import lost_packs, read_journal
from defectline.components.ingest.readers.base import Record, Sidecar
from defectline.components.ingest.reading.collector import uncollected


class Before(NamedTuple):
    """What the store holds when an ingest begins."""

    head: Head
    snapshot: Snapshot | None
    """The newest one."""
    rows: list[Pair]
    """Of that snapshot."""
    known: dict[State, Pair]
    """What was read of the source, as it was judged before duplicates and splits."""


@uncollected()
def read_before(store: Storage, source: str, records: Iterable[Record] = ()) -> Before:
    """What is known of a source, by its URI. Raises StoreError for a damaged snapshot.

    Keys and versions that the `records` have are in memory once.
    """
    there_already = {
        text: text
        for record in records
        for file in (record.image, file_of(record.mask))
        if file
        for text in (file.key, file.version)
    }
    head = find_head(store)
    earlier = read_pairs(store, head.snapshot, there_already) if head.snapshot else []
    cut_off = read_journal(store, source, there_already)
    del there_already
    if lost := lost_packs(store, earlier, cut_off):
        say(f"{len(lost)} packs have left the store or were cut short: their pictures are read again")
        earlier, cut_off = _forget(earlier, lost), _forget(cut_off, lost)
    snapshot = read_snapshot(store, head.snapshot) if head.snapshot else None
    return Before(head, snapshot, earlier, _known(snapshot, earlier, cut_off, source))


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
    read = (row for of in (rows, cut_off) for row in of if row.image_sha256 and (row.look or not row.pack))
    return {state_of(row): _undecided(row) for row in read}


def _undecided(row: Pair) -> Pair:
    """A row without what depends on other rows: a picture that it repeated may be gone.

    An accepted one keeps its split until all are decided: what was not touched is in memory once.
    """
    if row.accepted:
        return row
    row = row._replace(split="")
    return _accepted(row) if row.pack else row


def _accepted(row: Pair) -> Pair:
    return row if row.accepted else row._replace(status="accepted", reason="", fix="")


def hold_numbers(rows: Iterable[Pair | None]) -> bool:
    """Whether some mask that no reader names holds more than one class."""
    return any(1 < value < IGNORE for row in rows if row for value in read_areas(row))


def again(old: Pair, record: Record, class_map: Mapping[str, str], numbered: bool) -> Pair | None:
    """A row that was read before as it is judged now; None where the files are needed again."""
    if not reads_alike(old, record, numbered):
        return None
    told = id_of(record), record.label, record.legend
    if isinstance(record.mask, Sidecar):
        # What it says is known from there, but not whether it said the label.
        told = old.id, old.label, old.legend
    row = old
    if (*told, record.group) != (old.id, old.label, old.legend, old.group):
        row = old._replace(id=told[0], label=told[1], legend=told[2], group=record.group)
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
