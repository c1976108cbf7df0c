"""Reading in shards: what was listed, and which pairs each shard reads, in files of the run.

runs/<run>/listing.parquet    the objects of the source, as they were listed once for all shards
runs/<run>/shards.json        the first id of each shard but the first, in the order of ids

A shard reads and packs its pairs and leaves a journal, as an ingest does that is cut off; the ingest that
follows finds all of it, reads what is missing, and publishes. So the snapshot is that of one reader, but for
where packs begin, and a shard that was killed goes on where it was.
"""

import json
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

from defectline.components.common.layout import LISTING, SHARDS, run_key
from defectline.components.common.storage import Object, Storage
from defectline.components.common.storage.rows import parse_rows, write_rows
from defectline.components.ingest.labels.records import file_of
from defectline.components.ingest.reading.pictures import Unread

LEAST = 50
"""Pairs that a shard is worth: a pod takes some ten seconds to start."""


def write_listing(store: Storage, run: str, objects: Iterable[Object]) -> None:
    """Keep what was listed, for the shards of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LISTING)
        write_rows(path, Object, [one._replace(key=_as_text(one.key)) for one in objects])
        store.upload(path, run_key(run, LISTING))


def read_listing(store: Storage, run: str) -> list[Object] | None:
    """What was listed for the run; None where it has no shards."""
    try:
        data = store.read(run_key(run, LISTING))
    except KeyError:
        return None
    return [one._replace(key=_as_key(one.key)) for one in parse_rows(data, Object, ("key", "version"))]


def forget_listing(store: Storage, run: str) -> None:
    """Remove what the shards of the run needed."""
    for name in (LISTING, SHARDS):
        try:
            store.delete(run_key(run, name))
        except KeyError:
            continue


def cut(unread: Iterable[Unread], shards: int) -> list[str]:
    """The first ids of all shards but the first: at most `shards`, of about as many bytes. Pure."""
    ordered = sorted(unread, key=lambda item: item[1].id)
    count = max(1, min(shards, len(ordered) // LEAST))
    sizes = [one.image.size + (file.size if (file := file_of(one.mask)) else 0) for one, _ in ordered]
    total, before, firsts = max(1, sum(sizes)), 0, list[str]()
    for (_, pair), size in zip(ordered, sizes, strict=True):
        if before * count >= total * (len(firsts) + 1):
            firsts.append(pair.id)
        before += size
    return firsts


def write_cuts(store: Storage, run: str, firsts: Sequence[str]) -> None:
    store.write(run_key(run, SHARDS), json.dumps(list(firsts)).encode())


def read_cuts(store: Storage, run: str) -> list[str]:
    """Raises KeyError where the run was not cut into shards."""
    firsts: list[str] = json.loads(store.read(run_key(run, SHARDS)))
    return firsts


def shard_of(id: str, firsts: Sequence[str]) -> int:
    """Which shard reads a pair, from 0."""
    return bisect_right(firsts, id)


def _as_text(key: str) -> str:
    # Names of files need not be UTF-8, and a table can hold nothing else.
    return key if key.isascii() else key.encode(errors="surrogateescape").decode("latin-1")


def _as_key(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode(errors="surrogateescape")
