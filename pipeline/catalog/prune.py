"""Find what nothing in a store needs any more, and remove it.

Kept are, of each model, the champion, what it was compared with, what KServe serves and the last few
versions; the newest snapshot, the one of the last gate and those of the kept models; and every pack that
one of these snapshots names. Nothing of a run that may be under way is touched.

A run that begins meanwhile writes a file of its own below runs/ before it reads anything. So things go in
phases: first what refers to others, then, if no run has begun by then, what nothing refers to any more. A run
that begins later cannot have seen the former.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import Conflict, StoreError
from defectline.components.common.records import GateRecord, read_gate
from defectline.components.common.snapshot import find_head, read_pairs
from defectline.components.common.steps import Say
from defectline.components.common.storage import Object, Storage, checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.models import Model, read_models
from defectline.pipeline.catalog.runs import Run, read_runs

PLACES = (layout.MODELS, layout.SERVING, layout.SNAPSHOTS, layout.CHECKPOINTS, layout.PRETRAINED)
PHASES = (("model",), ("journal", "snapshot"), ("pack", "checkpoint", "weights", "upload"))
"""Kinds of things: what refers goes before what it refers to."""


class Item(NamedTuple):
    """A thing that may be removed."""

    kind: str
    """`model`, `snapshot`, `journal`, `pack`, `checkpoint`, `weights` or `upload`."""
    name: str
    reason: str
    size: int
    """Bytes."""
    objects: tuple[Object, ...]
    """In the order in which they go: without the first one the rest is not taken for whole."""


class Plan(NamedTuple):
    items: list[Item]
    kept: dict[str, str]
    """What is kept, a model `<name> <version>` or a snapshot → why."""
    under_way: list[str]
    """Runs that have not ended; while there are any, nothing may be removed."""


class StoreState(NamedTuple):
    """All of a store that a plan rests on."""

    objects: Mapping[str, Object]
    models: Sequence[Model]
    """Those of which there are files."""
    runs: Sequence[Run]
    references: Mapping[str, str]
    """Name of a model → the text of its records, in which versions stand."""
    in_use: Mapping[str, set[str]] | None
    """Name of a model → the versions that KServe uses; None where it was not asked."""
    head: str | None
    gates: Mapping[str, GateRecord]
    """Name of a model → the last run that reached its gate."""
    packs: Mapping[str, set[str] | None]
    """Snapshot → its packs; None where its index cannot be read."""
    unfinished: Sequence[Object]


def read_state(store: Storage, in_use: Mapping[str, set[str]] | None, say: Say) -> StoreState:
    """Read the store; nothing is changed. Raises StoreError where a record that decides is damaged."""
    objects = {one.key: one for place in PLACES for one in store.list(place)}
    runs = read_runs(store, say)
    models = [one for one in read_models(store, runs, say) if _files(objects, one)]
    references: dict[str, str] = defaultdict(str)
    for key in objects:
        name = layout.parse_name(key)
        records = (layout.champion_key(name), layout.waiting_key(name))
        if key in records or key.startswith(layout.unfinished_prefix(name)):
            references[name] += _text(store, key)
    for name, versions in (in_use or {}).items():
        for key in objects:
            if key.startswith(layout.deployed_prefix(name)) and layout.stem(key) in versions:
                references[name] += _text(store, key)
    gates = {}
    for name in {layout.parse_name(key) for key in objects if key.startswith(layout.MODELS)}:
        if record := read_gate(store, name):
            gates[name] = record
    snapshots = {
        id for key in objects if (id := layout.parse_snapshot(key)) and key.endswith(f"/{layout.INDEX}")
    }
    return StoreState(
        objects,
        models,
        runs,
        references,
        in_use,
        find_head(store).snapshot,
        gates,
        {snapshot: _packs(store, snapshot, say) for snapshot in sorted(snapshots)},
        list(store.incomplete_uploads()),
    )


def _text(store: Storage, key: str) -> str:
    with suppress(KeyError):
        return store.read(key).decode(errors="replace") + "\n"
    return ""


def _packs(store: Storage, snapshot: str, say: Say) -> set[str] | None:
    try:
        return {pair.pack for pair in read_pairs(store, snapshot)} - {""}
    except StoreError as error:
        say(str(error).splitlines()[0])
        return None


def make_plan(state: StoreState, keep: int, before: datetime, ended: Collection[str] = ()) -> Plan:
    """What can go, with the last `keep` versions of each model staying. Pure.

    Unfinished work that was last written before the time `before` counts as abandoned. The runs `ended` are
    not under way, though they left no outcome.
    """
    unfinished = [run for run in state.runs if run.state == "unfinished" and run.id not in ended]
    under_way = [run.id for run in unfinished if not _old(run.ended, before)]
    versions = _kept_versions(state, keep)
    snapshots = _kept_snapshots(state, versions)
    kept = {f"{name} {version}": why for (name, version), why in versions.items()}
    kept |= {snapshot: why for snapshot, why in snapshots.items() if snapshot in state.packs}
    items = [
        *_models(state, versions, before),
        *_snapshots(state, snapshots, before),
        *_packs_to_remove(state, snapshots, before),
        *_abandoned(state, before),
        *_weights(state, versions, before),
    ]
    return Plan(items, kept, under_way)


def _kept_versions(state: StoreState, keep: int) -> dict[tuple[str, str], str]:
    kept: dict[tuple[str, str], str] = {}
    by_name: dict[str, list[Model]] = defaultdict(list)
    compared = {
        run.judged: [str(run.metrics.get(kind, "")) for kind in ("champion", "reference")]
        for run in state.runs
    }
    for model in state.models:
        by_name[model.name].append(model)
    for name, models in by_name.items():
        there = {model.version: model for model in models}
        published = [model.version for model in models if model.state in ("champion", "published")]
        in_use = state.in_use.get(name, set()) if state.in_use is not None else set()
        served = {
            m.version
            for m in models
            if any(one.key.startswith(layout.SERVING) for one in _files(state.objects, m))
        }
        why: dict[str, str] = {}
        for model in models:
            if model.state == "champion":
                why[model.version] = "the champion"
                for other in compared.get(model.version, ()):
                    why.setdefault(other, "the champion was compared with it")
        for version in there:
            if version in in_use:
                why[version] = "KServe uses it"
                for other in compared.get(version, ()):
                    why.setdefault(other, "what KServe uses was compared with it")
            elif version in state.references.get(name, ""):
                why.setdefault(version, "a record of the deployment names it")
            elif state.in_use is None and version in served:
                why.setdefault(version, "KServe may use it; --namespace asks")
        for version in published[-keep:]:
            why.setdefault(version, f"one of the last {keep}")
        kept |= {(name, version): reason for version, reason in why.items() if version in there}
    return kept


def _kept_snapshots(state: StoreState, versions: Mapping[tuple[str, str], str]) -> dict[str, str]:
    models = {(model.name, model.version): model for model in state.models}
    kept: dict[str, str] = {}
    for key in versions:
        if models[key].snapshot:
            kept.setdefault(models[key].snapshot, f"{key[1]} was made of it")
        elif models[key].state != "incomplete":
            # Whatever it was made of must stay.
            kept |= dict.fromkeys(state.packs, f"{key[1]} does not say what it was made of")
    for name, record in state.gates.items():
        kept[record.snapshot] = f"the last gate of {name}"
    if state.head:
        kept[state.head] = "the newest"
    return kept


def _models(state: StoreState, versions: Mapping[tuple[str, str], str], before: datetime) -> Iterable[Item]:
    for model in state.models:
        objects = _files(state.objects, model)
        if (model.name, model.version) in versions:
            continue
        if model.state == "incomplete" and not _all_old(objects, before):
            continue
        # A folder with checksums would count as whole.
        first = [one for one in objects if one.key.endswith(f"/{checksums.NAME}")]
        ordered = (*first, *(one for one in objects if one not in first))
        reason = "its upload was cut off" if model.state == "incomplete" else "older than those that are kept"
        yield _item("model", f"{model.name} {model.version}", reason, ordered)


def _files(objects: Mapping[str, Object], model: Model) -> list[Object]:
    """The model's files, and the records that name it."""
    found = []
    for key, one in objects.items():
        named = key.startswith(layout.deployed_prefix(model.name)) and layout.stem(key) == model.version
        if named or layout.parse_version(key) == (model.name, model.version):
            found.append(one)
    return found


def _snapshots(state: StoreState, kept: Mapping[str, str], before: datetime) -> Iterable[Item]:
    folders: dict[str, list[Object]] = defaultdict(list)
    for key, one in state.objects.items():
        if snapshot := layout.parse_snapshot(key):
            folders[snapshot].append(one)
    for snapshot, objects in folders.items():
        named = [one for one in objects if one.key.endswith(f"/{layout.SNAPSHOT}")]
        if snapshot in kept or (not named and not _all_old(objects, before)):
            continue
        ordered = (*named, *(one for one in objects if one not in named))
        reason = "no kept model was made of it" if named else "writing it was cut off"
        yield _item("snapshot", snapshot, reason, ordered)


def _packs_to_remove(state: StoreState, kept: Mapping[str, str], before: datetime) -> Iterable[Item]:
    journals = [one for key, one in state.objects.items() if key.startswith(layout.JOURNAL)]
    going_on = [one for one in journals if not _old(one.modified, before)]
    for one in journals:
        if one not in going_on:
            yield _item("journal", layout.stem(one.key), "no run went on with that ingest", (one,))
    needed = {layout.stem(one.key) for one in going_on}
    for snapshot in kept:
        packs = state.packs.get(snapshot, set())
        if packs is None:
            # Which ones it needs is not known.
            return
        needed |= packs
    for key, one in state.objects.items():
        if key == layout.pack_key(layout.stem(key)) and layout.stem(key) not in needed:
            yield _item("pack", layout.stem(key), "no kept snapshot has pictures in it", (one,))


def _abandoned(state: StoreState, before: datetime) -> Iterable[Item]:
    trainings: dict[str, list[Object]] = defaultdict(list)
    for key, one in state.objects.items():
        if key.startswith(layout.CHECKPOINTS):
            trainings[layout.parse_name(key)].append(one)
    for name, objects in trainings.items():
        if _all_old(objects, before):
            yield _item("checkpoint", name, "no run went on with that training", tuple(objects))
    for one in state.unfinished:
        if _old(one.modified, before):
            yield _item("upload", one.key, "it was cut off", (one,))


def _weights(state: StoreState, versions: Mapping[tuple[str, str], str], before: datetime) -> Iterable[Item]:
    used = "\n".join(record.settings_key for record in state.gates.values())
    used += "\n".join(m.starts_from for m in state.models if (m.name, m.version) in versions)
    for key, one in state.objects.items():
        name = key.rpartition(".")[0]
        if key.startswith(layout.PRETRAINED) and name not in used and _old(one.modified, before):
            yield _item(
                "weights", key.removeprefix(layout.PRETRAINED), "no kept model started from them", (one,)
            )


def _item(kind: str, name: str, reason: str, objects: Sequence[Object]) -> Item:
    return Item(kind, name, reason, sum(one.size for one in objects), tuple(objects))


def _all_old(objects: Iterable[Object], before: datetime) -> bool:
    return all(_old(one.modified, before) for one in objects)


def _old(modified: str, before: datetime) -> bool:
    return datetime.fromisoformat(modified) < before


def prune(
    store: Storage,
    keep: int,
    age: timedelta,
    in_use: Mapping[str, set[str]] | None,
    say: Say,
    ended: Collection[str] = (),
) -> list[Item]:
    """Remove what the plan says; returns what is gone. `ended` is that of `make_plan`.

    Raises Conflict while a run is under way, with what a run could need still there.
    """
    from defectline.pipeline.local import run_lock

    removed: list[Item] = []
    planned: set[Object] | None = None
    with run_lock(store):
        before = datetime.now(UTC) - age
        for kinds in PHASES:
            state = read_state(store, in_use, say)
            plan = make_plan(state, keep, before, ended)
            _check_idle(plan)
            if planned is None:
                planned = {one for item in plan.items for one in item.objects}
            # Also those of a snapshot that was written again meanwhile, and so was not removed.
            needed = set[str]().union(*(packs or set() for packs in state.packs.values()))
            for item in plan.items:
                free = item.kind != "pack" or (item.name not in needed and None not in state.packs.values())
                if item.kind in kinds and free and planned.issuperset(item.objects):
                    removed += [item] * _remove(store, item, say)
    return removed


def _check_idle(plan: Plan) -> None:
    if plan.under_way:
        raise Conflict(
            "A run is under way.",
            got=f"no outcome yet of {', '.join(plan.under_way[:3])}",
            expected="no run on this store while it is pruned",
            fix="Wait until it has ended. If it was killed, name the server that it ran on with --host, or "
            "give --age fewer days than that is ago.",
        )


def _remove(store: Storage, item: Item, say: Say) -> bool:
    """Whether all of it is gone; not where it was written again since the plan was made."""
    if item.kind == "upload":
        store.abort_upload(item.objects[0])
        return True
    if item.kind == "model":
        name, version = item.name.split(" ")
        if version in _text(store, layout.champion_key(name)):
            say(f"{item.name} has become the champion: kept")
            return False
    for one in item.objects:
        found = next((now for now in store.list(one.key) if now.key == one.key), None)
        if found is None:
            continue
        if found.version != one.version:
            say(f"{one.key} was written again meanwhile: kept")
            return False
        with suppress(KeyError):
            store.delete(one.key)
    if isinstance(store, FolderStorage):
        for folder in sorted({(store.root / one.key).parent for one in item.objects}, reverse=True):
            _tidy(folder, store.root)
    return True


def _tidy(folder: Path, root: Path) -> None:
    """Remove a folder that is empty, and the folders above it that are then."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
