"""The two steps before an ingest in shards: list and cut the source, and read a shard of it."""

from collections.abc import Mapping

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked
from defectline.components.common.steps import say, step
from defectline.components.common.storage import open_storage
from defectline.components.ingest.reading.known import read_before
from defectline.components.ingest.reading.new import read_new, sort_known
from defectline.components.ingest.reading.shards import (
    cut,
    read_cuts,
    read_listing,
    shard_of,
    write_cuts,
    write_listing,
)
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import list_source
from defectline.components.ingest.step import check_apart


def plan(source: str, store: str, run: str, settings: Mapping[str, object], shards: int) -> list[str]:
    """List the source once, and cut what needs to be read into at most `shards` parts.

    Returns what `read_shard` takes as its `part`: `1/3`, `2/3`, …; one part where little or nothing is new.
    Raises as `take_snapshot` does for what the listing shows.
    """
    with step("plan", store) as report:
        chosen = checked(IngestSettings, **settings)
        origin, target = open_storage(source), open_storage(store)
        check_apart(origin, target)
        objects = list(origin.list_all())
        labels, _ = list_source(origin, target.uri, chosen, objects)
        write_listing(target, run, objects)
        before = read_before(target, origin.uri, labels.layout.records)
        _, unread, _ = sort_known(labels.layout, before.known, chosen.classes)
        firsts = cut(unread, shards)
        write_cuts(target, run, firsts)
        count = len(firsts) + 1
        report.summary = f"{len(unread):,} of {len(labels.layout.records):,} pairs to read, in {count} parts"
        return [f"{number}/{count}" for number in range(1, count + 1)]


def read_shard(source: str, store: str, run: str, settings: Mapping[str, object], part: str) -> str:
    """Read, check and pack a part of the pairs, and note them in the journal for the ingest that follows.

    What an earlier try of this shard packed is not read again. Returns a sentence. Raises SettingsError for
    a part that the run does not have, else as `take_snapshot`.
    """
    number, _, count = part.partition("/")
    with step("read", store, shard=int(number) - 1, shards=int(count)) as report:
        chosen = checked(IngestSettings, **settings)
        origin, target = open_storage(source), open_storage(store)
        objects, firsts = read_listing(target, run), read_cuts(target, run)
        if objects is None or int(count) != len(firsts) + 1:
            raise SettingsError(
                f"The run {run} was not cut into {count} parts.",
                got=f"{len(firsts) + 1} parts",
                expected="what the step before it planned",
                fix="Start the run again.",
            )
        labels, _ = list_source(origin, target.uri, chosen, objects)
        before = read_before(target, origin.uri, labels.layout.records)
        shard = int(number) - 1
        rows, complete = read_new(
            labels.layout,
            origin,
            target,
            before.known,
            before.rows,
            chosen.classes,
            lambda id: shard_of(id, firsts) == shard,
            to_the_end=True,
        )
        if not complete:
            say("files were replaced or deleted while they were read: the next step lists the source again")
        mine = [row for row in rows if shard_of(row.id, firsts) == shard]
        report.summary = f"{len(mine):,} pairs are there"
        return report.summary
