"""Which snapshots a store holds, which models came from them, and what changed between two."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import StoreError
from defectline.components.common.snapshot import Pair, Snapshot, read_head, read_pairs, read_snapshot
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.pipeline.catalog.models import read_published
from defectline.pipeline.catalog.reading import resolve


def list_snapshots(store: Storage) -> list[Snapshot]:
    """Every snapshot in the store, the oldest first."""
    keys = [found.key for found in store.list(layout.SNAPSHOTS)]
    ids = [
        id
        for key in keys
        if (id := layout.parse_snapshot(key)) and key == layout.snapshot_key(id, layout.SNAPSHOT)
    ]
    return sorted((read_snapshot(store, id) for id in ids), key=lambda s: (s.created, s.id))


class SnapshotRow(NamedTuple):
    snapshot: Snapshot
    new: int
    """Accepted pairs that the snapshot before it, by date, does not have."""
    models: list[str]
    """`<name> <version>` of each model that was trained on it."""
    head: bool
    """Whether it is the newest."""


class Change(NamedTuple):
    id: str
    kinds: tuple[str, ...]
    """`added` or `removed`, or of a pair in both: `content`, `name`, `label`, `split`, `status`."""
    what: str


def summarize(store: Storage, say: Say) -> list[SnapshotRow]:
    """Every snapshot, the oldest first. Raises StoreError where there is none."""
    models, head = _models(store, say), read_head(store)
    rows = []
    before: set[tuple[str, str, str]] = set()
    for snapshot in _all(store):
        now = {p.content for p in read_pairs(store, snapshot.id) if p.accepted}
        rows.append(SnapshotRow(snapshot, len(now - before), models[snapshot.id], snapshot.id == head))
        before = now
    return rows


def compare(store: Storage, before: str, after: str) -> tuple[str, str, list[Change]]:
    """The ids of two snapshots, and what the second has other than the first, sorted by id.

    `before` and `after` are ids or their unique starts. Raises SettingsError for another text.
    """
    ids = [snapshot.id for snapshot in _all(store)]
    first, second = (resolve(one, ids, "snapshot", "defectline snapshots") for one in (before, after))
    return first, second, difference(read_pairs(store, first), read_pairs(store, second))


def difference(before: Sequence[Pair], after: Sequence[Pair]) -> list[Change]:
    """What the second rows have other than the first. Pure.

    A picture under another id is the same pair, with another name or label, where no other has its pixels.
    """
    old, new = _present(before), _present(after)
    changes = []
    moved = _moved(
        [p for id, p in old.items() if id not in new], [p for id, p in new.items() if id not in old]
    )
    for was, now in moved:
        del old[was.id], new[now.id]
        changes.append(_change(was, now))
    for id in old.keys() | new.keys():
        if id not in new:
            changes.append(Change(id, ("removed",), _state(old[id])))
        elif id not in old:
            changes.append(Change(id, ("added",), _state(new[id])))
        else:
            changes.append(_change(old[id], new[id]))
    return sorted(change for change in changes if change.kinds)


def _all(store: Storage) -> list[Snapshot]:
    if found := list_snapshots(store):
        return found
    raise StoreError(
        "The store holds no snapshots.",
        got=f"nothing in {store.url(layout.SNAPSHOTS)}",
        expected="a store that `defectline run` has filled",
        fix="Check the store's URI, or run the pipeline first.",
    )


def _models(store: Storage, say: Say) -> dict[str, list[str]]:
    """Id of a snapshot → the models that were trained on it."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in sorted(read_published(store, say), key=lambda one: (one.name, one.version)):
        if one.bundle:
            found[one.bundle.data.snapshot].append(f"{one.name} {one.version}")
    return found


def _present(rows: Sequence[Pair]) -> dict[str, Pair]:
    """The rows of what was in the source, by id. Of several rejected files of one name each is named."""
    found: dict[str, Pair] = {}
    for row in sorted(rows):
        if row.status != "absent":
            id = row.id if row.id not in found else f"{row.id} ({row.image_key or row.mask_key})"
            found[id] = row._replace(id=id)
    return found


def _moved(removed: Sequence[Pair], added: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Pairs of rows that have the same picture under two ids."""
    pixels: dict[str, tuple[list[Pair], list[Pair]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((removed, added)):
        for row in rows:
            if row.pixel_sha256:
                pixels[row.pixel_sha256][side].append(row)
    return [(was[0], now[0]) for was, now in pixels.values() if len(was) == len(now) == 1]


def _change(was: Pair, now: Pair) -> Change:
    kinds, said = [], []
    files = [
        kind
        for kind, a, b in (
            ("image", was.image_sha256, now.image_sha256),
            ("mask", was.mask_sha256, now.mask_sha256),
        )
        # What was rejected for its name was never read.
        if a != b and was.image_sha256 and now.image_sha256
    ]
    if was.id != now.id:
        said.append(f"was {was.id}")
        if was.label == now.label:
            kinds.append("name")
    if files:
        kinds.append("content")
        said.append("other " + " and ".join(files))
    if was.label != now.label:
        kinds.append("label")
        said.append(f"{was.label} → {now.label}")
    # A rejected pair has no split; that is said by its status.
    if was.split and now.split and was.split != now.split:
        kinds.append("split")
        said.append(f"{was.split} → {now.split}")
    if was.status != now.status:
        kinds.append("status")
        said.append(f"{was.status} → {_state(now)}")
    return Change(now.id, tuple(kinds), "; ".join(said))


def _state(pair: Pair) -> str:
    return f"rejected: {pair.reason}" if pair.status == "rejected" else f"accepted, {pair.split}"
