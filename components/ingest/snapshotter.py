"""Taking a snapshot: list, pair, read what is new, check, pack, split, and publish the index last."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from defectline.components.common.errors import SourceError
from defectline.components.common.legend import class_names, name_values
from defectline.components.common.snapshot import Pair, Snapshot, move_head, publish_snapshot
from defectline.components.common.steps import say
from defectline.components.common.storage import Object, Storage, open_storage
from defectline.components.ingest.checks import reject_duplicates
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
from defectline.components.ingest.labels.records import Labels, find_labels, state_of
from defectline.components.ingest.labels.telling import (
    quarantine_table,
    say_checked,
    say_classes,
    say_regions,
)
from defectline.components.ingest.official import official_splits
from defectline.components.ingest.packing import clear_journal
from defectline.components.ingest.readers.base import Layout, Listing
from defectline.components.ingest.reading.collector import uncollected
from defectline.components.ingest.reading.known import read_before
from defectline.components.ingest.reading.new import read_new
from defectline.components.ingest.roi import part_regions
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.split_file import Listed, known_splits, read_split_file
from defectline.components.ingest.splits import ENOUGH

ROUNDS = 5
"""How often a source that changes while it is read is listed again."""
DEFAULTS = IngestSettings()


class TooManyRejected(SourceError):
    """More pairs than allowed were rejected; `rows` are all that were read, without splits."""

    rows: list[Pair]
    labels: Labels


class Taken(NamedTuple):
    """A snapshot, and what the source's labels were."""

    snapshot: Snapshot
    labels: Labels


def take_snapshot(
    source: Storage,
    store: Storage,
    quarantine_key: str,
    settings: IngestSettings = DEFAULTS,
    objects: Iterable[Object] | None = None,
) -> Taken:
    """Bring the source's present state into the store: the snapshot of it, and what its labels are.

    Files that an earlier snapshot packed, by key and version, are not read again, nor those that a run
    packed which was cut off; what is packed already, by content, is not packed again. A source that
    changes while it is read is listed again. The quarantine table is written even where too many pairs were
    rejected, which raises TooManyRejected; a wrong layout, an empty class, too few pairs and a split file
    that cannot be followed raise SourceError, another run that published a snapshot meanwhile Conflict. No
    pair of an older snapshot changes. `objects` are those of the source where they were listed before.
    """
    labels, listed = list_source(source, store.uri, settings, objects)
    for line in labels.lines:
        say(line)
    # Again later: this one shows before the long reading whether the store can be written.
    store.write(quarantine_key, quarantine_table(labels.layout.rejected))
    before = read_before(store, source.uri, labels.layout.records)
    head, newest, earlier, known = before
    for _ in range(ROUNDS):
        rows, complete = read_new(labels.layout, source, store, known, earlier, settings.classes)
        if complete:
            break
        known |= {state_of(row): row for row in rows if row.image_sha256}
        say("files were replaced or deleted while they were read: listing the source again")
        labels, listed = list_source(source, store.uri, settings)
    else:
        raise SourceError(
            "The source changes faster than it can be read.",
            got=f"files that were replaced or deleted in each of {ROUNDS} rounds",
            expected="files that stay as they are for some minutes",
            fix="Let the program that writes them finish first, or write each under a name of its own.",
        )
    # Of a million pairs all that is no longer needed is a gigabyte.
    del before, known
    labels = _slim(labels)
    rows = name_values(reject_duplicates(rows, {p.pixel_sha256: p.id for p in earlier if p.accepted}))
    store.write(quarantine_key, quarantine_table(rows))
    say_checked(rows)
    _check_rejected(rows, labels, settings.max_rejected, store.url(quarantine_key))
    _check_labels(rows, earlier)
    rows = _decide(rows, earlier, labels.layout, listed, settings)
    classes = class_names(rows, settings.classes, newest.classes if newest else ())
    say_classes(rows, classes, settings.classes)
    say_regions(rows)
    unchanged = rows if sorted(rows) == earlier else ()
    del earlier
    with uncollected():
        snapshot = publish_snapshot(store, rows, source.uri, classes, settings.classes, unchanged)
    # A reader that follows the head finds a snapshot that is complete.
    move_head(store, head, snapshot.id)
    clear_journal(store, source.uri)
    return Taken(snapshot, labels)


@uncollected()
def _decide(
    rows: list[Pair], earlier: list[Pair], layout: Layout, listed: list[Listed], settings: IngestSettings
) -> list[Pair]:
    """The rows, and those of pairs that left, with their groups and splits; `rows` becomes that list."""
    decided = {p.pixel_sha256: p.split for p in earlier if p.split}
    there = {p.pixel_sha256 for p in rows if p.accepted}
    rows += [p._replace(status="absent") for p in earlier if p.split and p.pixel_sha256 not in there]
    # In place: of a million rows a second set is 300 MB.
    rows[:] = name_groups(rows, listed, settings.group_by)
    if settings.group_by == NO_PATTERN:
        rows[:] = join_twins(rows, earlier)
    if contradictions := find_contradictions(rows):
        say(tell_contradictions(contradictions))
    splits = known_splits(listed, present(rows), decided)
    official = official_splits(layout.records, rows, splits)
    for note in official.notes:
        say(note)
    rows[:] = assign_sides(rows, {**official.splits, **splits}, settings.classes)
    say_groups(rows)
    check_sides(rows, listed, decided)
    return rows


def _slim(labels: Labels) -> Labels:
    """The labels without the records of which nothing more needs to be known than their pairs say."""
    needed = [one for one in labels.layout.records if one.split or not isinstance(one.mask, Object | None)]
    return labels._replace(layout=labels.layout._replace(records=needed))


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


@uncollected()
def list_source(
    source: Storage, store: str, settings: IngestSettings, objects: Iterable[Object] | None = None
) -> tuple[Labels, list[Listed]]:
    """What the source's labels are, and its rows of splits.csv; raises as `take_snapshot`.

    `objects` are those of the source where they were listed before.
    """
    own = f"{open_storage(store).uri.rstrip('/')}/".removeprefix(f"{source.uri.rstrip('/')}/")
    # A store may lie in the source; what it holds is not data.
    found = source.list_all() if objects is None else objects
    # When a file was written says nothing here, and of millions that is much.
    regions, others = part_regions(Object(*one[:3]) for one in found if not one.key.startswith(own))
    listing = Listing(source, others, settings.masks)
    listed = read_split_file(listing)
    return find_labels(listing, settings, regions), listed


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
        error.rows, error.labels = [row._replace(split="") for row in rows], labels
        raise error
