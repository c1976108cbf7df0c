"""The ingest step: take a snapshot of the source, and say whether there is anything new to learn."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from defectline.components.common.errors import SettingsError, SourceError
from defectline.components.common.layout import CONFIG, PICTURES, QUARANTINE, run_key, snapshot_key
from defectline.components.common.legend import class_names, counted
from defectline.components.common.records import Outcome, read_champion, read_gate
from defectline.components.common.reporting.front_page import end_run
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Snapshot, read_pairs, read_snapshot
from defectline.components.common.steps import say, step
from defectline.components.common.storage import Object, Storage, open_storage
from defectline.components.common.storage.base import local_file
from defectline.components.ingest.labels.records import Labels
from defectline.components.ingest.readers.folders import FOLDERS
from defectline.components.ingest.reading.shards import forget_listing, read_listing
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.sheet import About, draw_sheet
from defectline.components.ingest.snapshotter import TooManyRejected, take_snapshot


def ingest(
    source: str,
    store: str,
    run: str = "manual",
    model_name: str = "defects",
    settings: Mapping[str, object] | None = None,
    settings_key: str = "",
    pictures: Path | None = None,
) -> str:
    """Bring the source into the store, and show some of its pictures and of those that were rejected.

    Returns the snapshot's id, or "" where the run may end: nothing new since the last gate.

    `settings` are fields of IngestSettings. New are pairs that the snapshot of the last run that reached its
    gate does not have. Another `settings_key` than that run's, or `force`, counts as new; it is a text
    `key=value key=value …` in any order. The page of pictures goes to the file `pictures` as well, if one is
    named.
    """
    with step("ingest", store) as report:
        chosen = checked(IngestSettings, **(settings or {}))
        origin, target = open_storage(source), open_storage(store)
        check_apart(origin, target)
        try:
            # Listed before, where shards have read it.
            objects = read_listing(target, run)
            snapshot, labels = take_snapshot(origin, target, run_key(run, QUARANTINE), chosen, objects)
        except SourceError as error:
            if isinstance(error, TooManyRejected):
                classes = class_names(error.rows, chosen.classes, ())
                about = _about(target, error.labels, classes, chosen.classes)
                _show(draw_sheet(origin, error.rows, "too many rejected", about), target, run, pictures)
            # On a cluster, all that is shown of a run that failed is its error.
            error.got = f"{error.got}; the source is {origin.uri}"
            raise
        about = _about(target, labels, snapshot.classes, snapshot.class_map)
        _show(_snapshots_sheet(origin, target, snapshot.id, about), target, run, pictures)
        target.write(run_key(run, CONFIG), _config(source, store, model_name, chosen, settings_key).encode())
        new, reason = _news(target, model_name, snapshot, settings_key, chosen)
        report.summary = f"{snapshot.accepted} pairs, {snapshot.rejected} rejected, {reason}"
        say(f"ingest: snapshot {snapshot.id}")
        if objects is not None:
            forget_listing(target, run)
        if new:
            return snapshot.id
        current = read_champion(target, model_name)
        version = current.version if current else ""
        end_run(target, run, Outcome(state="nothing_new", reason=reason, version=version))
        return ""


def _config(source: str, store: str, model_name: str, settings: IngestSettings, settings_key: str) -> str:
    """The settings of the run as YAML, for `defectline run --config`.

    >>> print(_config("in", "out", "plates", IngestSettings(), "epochs=3 tile=True init_from=a b.keras"))
    source: "in"
    store: "out"
    name: "plates"
    parameters:
      min_new_images: 1
      max_rejected: 0.1
      force: false
      masks: "all"
      group_by: "none"
      layout: "auto"
      class_map: ""
      epochs: 3
      tile: true
      init_from: "a b.keras"
    <BLANKLINE>
    """
    # Only the text of training, which is the last one, has more of the form key=value in it.
    others, _, training = settings_key.partition(" training=")
    pairs = re.findall(r"(\w+)=(.*?)(?= \w+=|$)", others) + ([("training", training)] if training else [])
    parameters = settings.model_dump() | {key: _typed(value) for key, value in pairs}
    run = {"source": source, "store": store, "name": model_name}
    lines = [f"{key}: {json.dumps(value)}" for key, value in run.items()] + ["parameters:"]
    return "\n".join(lines + [f"  {key}: {json.dumps(value)}" for key, value in parameters.items()]) + "\n"


def _typed(text: str) -> object:
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    # KFP writes every number as a float.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_apart(source: Storage, store: Storage) -> None:
    """Raise SettingsError where the store would be taken for pictures."""
    if store.uri.rstrip("/") == source.uri.rstrip("/"):
        raise SettingsError(
            "Store and source are the same.",
            got=store.uri,
            expected="a store of its own, beside the labelled images",
            fix="Name another folder or prefix with --store.",
        )
    inside = f"{store.uri.rstrip('/')}/".removeprefix(f"{source.uri.rstrip('/')}/")
    if inside.partition("/")[0] in FOLDERS:
        raise SettingsError(
            "The store lies among the source's pictures.",
            got=store.uri,
            expected=f"a store outside of {', '.join(f'{name}/' for name in FOLDERS)}",
            fix="Choose another --store.",
        )


def _about(store: Storage, labels: Labels, classes: Sequence[str], class_map: Mapping[str, str]) -> About:
    """What the page says of all pictures together."""
    drawn = {one.image.key: one for one in labels.layout.records if not isinstance(one.mask, Object | None)}
    return About(classes, class_map, labels.lines, store, drawn)


def _snapshots_sheet(source: Storage, store: Storage, snapshot: str, about: About) -> str:
    """The page of a snapshot, which is drawn once."""
    key = snapshot_key(snapshot, PICTURES)
    try:
        return store.read(key).decode()
    except KeyError:
        page = draw_sheet(source, read_pairs(store, snapshot), f"snapshot {snapshot}", about)
        store.write(key, page.encode())
        return page


def _show(page: str, store: Storage, run: str, file: Path | None) -> None:
    store.write(run_key(run, PICTURES), page.encode())
    if file is not None:
        with local_file(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page, encoding="utf-8")


def _news(
    store: Storage, model_name: str, snapshot: Snapshot, settings_key: str, settings: IngestSettings
) -> tuple[bool, str]:
    """Whether to go on, and why in a few words."""
    gated = read_gate(store, model_name)
    if gated is None:
        return True, "all of them new"
    judged = read_snapshot(store, gated.snapshot)
    # Of the same snapshot nothing is new: it need not be read.
    before, now = (
        {(*p.content, *sorted(counted(p, of.class_map))) for p in rows if p.accepted}
        for of in (judged, snapshot)
        for rows in [read_pairs(store, of.id) if judged.id != snapshot.id else []]
    )
    count = len(now - before)
    if settings.force:
        return True, f"{count} new, and --force"
    if judged.class_map != snapshot.class_map or set(gated.settings_key.split()) != set(settings_key.split()):
        return True, f"{count} new, and other settings"
    if count >= settings.min_new_images:
        return True, f"{count} new"
    gone = len({id for id, *_ in before} - {id for id, *_ in now})
    removed = f" and {gone} removed" if gone else ""
    return False, f"{count} new{removed} since run {gated.run}, {settings.min_new_images} needed"
