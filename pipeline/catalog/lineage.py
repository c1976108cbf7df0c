"""What a model was made of, and what a picture went into."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.layout import COUNTS, MODELS, run_key
from defectline.components.common.snapshot import (
    SPLITS,
    Pair,
    Snapshot,
    read_head,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.common.storage.checksums import sha256_file
from defectline.pipeline.catalog.models import Model, read_models
from defectline.pipeline.catalog.reading import leave_out, resolve
from defectline.pipeline.catalog.review import list_frames
from defectline.pipeline.catalog.runs import Run, read_runs
from defectline.pipeline.catalog.snapshots import list_snapshots

USES = {"train": "trained on", "validation": "calibrated on", "test": "judged on"}
"""What a picture of each split is to a model of its snapshot."""
LEAST_DIGITS = 6
"""Of a checksum, so that hardly any word is taken for one."""


class Picture(NamedTuple):
    """A picture that a model was made of."""

    id: str
    label: str
    split: str
    image_sha256: str
    file: str
    """Its key in the source."""
    verdict: str
    """The model's own, of a test picture; else empty."""
    score: float | None


class ModelLineage(NamedTuple):
    """A model, and what it came from."""

    model: Model
    run: Run | None
    """None where its files are gone."""
    snapshot: Snapshot | None
    """None where it is gone or not known."""
    pictures: list[Picture]


class SnapshotEntry(NamedTuple):
    """A picture in a snapshot."""

    snapshot: str
    created: str
    newest: bool
    id: str
    status: str
    split: str
    reason: str
    """Why it was rejected; else empty."""
    image_sha256: str


class ModelUse(NamedTuple):
    """What a picture was to a model."""

    name: str
    version: str
    state: str
    use: str
    """One of USES."""
    id: str
    verdict: str
    """The model's own, of a picture that it was judged on; else empty."""
    score: float | None


class Reviewed(NamedTuple):
    """The frame of the line that a picture was."""

    id: str
    model: str
    version: str
    """Which answered."""
    taken: str
    reason: str
    verdict: str
    """What that version answered."""
    decided: str
    """What people said that the part is; empty where that is not decided."""
    exported: tuple[str, ...]


class ImageLineage(NamedTuple):
    """Where a picture is and was."""

    snapshots: list[SnapshotEntry]
    models: list[ModelUse]
    frames: list[Reviewed]


def is_version(text: str) -> bool:
    """Whether this is a version or the start of one, and no picture."""
    return len(text) > 1 and text[0] == "v" and text[1:].replace("-", "").isalnum() and text[1].isdigit()


def trace_model(store: Storage, start: str, say: Say) -> ModelLineage:
    """What the version `start`, or the one that begins so, was made of; empty stands for the latest champion,
    or the latest version where there is none. Raises SettingsError for another."""
    runs = read_runs(store, say)
    models = {model.version: model for model in read_models(store, runs, say)}
    if start:
        model = models[resolve(start, list(models), "version", "defectline models")]
    else:
        model = _latest(store, models.values())
        say(f"{model.name} {model.version}, the latest {'champion' if model.champion else 'version'}")
    run = next((run for run in runs if run.id == model.run), None)
    if not model.snapshot:
        return ModelLineage(model, run, None, [])
    try:
        snapshot, rows = read_snapshot(store, model.snapshot), read_pairs(store, model.snapshot)
    except StoreError as error:
        say(str(error).splitlines()[0])
        return ModelLineage(model, run, None, [])
    verdicts = _verdicts(store, model.run, say)
    return ModelLineage(model, run, snapshot, [_picture(row, verdicts) for row in rows if row.accepted])


def _latest(store: Storage, models: Iterable[Model]) -> Model:
    if latest := max(models, key=lambda model: (model.champion, model.version), default=None):
        return latest
    raise SettingsError(
        "The store holds no models.",
        got=f"nothing in {store.url(MODELS)}",
        expected="a store in which a run reached its gate",
        fix="Run the pipeline first, or correct --store.",
    )


def _picture(row: Pair, verdicts: Mapping[str, tuple[str, float]]) -> Picture:
    verdict, score = verdicts.get(row.id, ("", None)) if row.split == "test" else ("", None)
    return Picture(row.id, row.label, row.split, row.image_sha256, row.image_key, verdict, score)


def count(pictures: Iterable[Picture]) -> dict[str, dict[str, int]]:
    """How many pictures of each split and label. Pure."""
    found = Counter((picture.split, picture.label) for picture in pictures)
    return {split: {label: found[split, label] for label in LABELS} for split in SPLITS}


def trace_image(store: Storage, text: str, say: Say) -> ImageLineage:
    """Where a picture is, named by its pair's id, its key in the source, a file, or the start of its SHA-256.

    A frame of the line is found by its id as well. Raises SettingsError where nothing is known of it.
    """
    fits = _finder(text)
    head = read_head(store)
    snapshots = []
    for snapshot in list_snapshots(store):
        try:
            rows = read_pairs(store, snapshot.id)
        except StoreError as error:
            say(str(error).splitlines()[0])
            continue
        snapshots += [_entry(snapshot, head, row) for row in rows if fits(row)]
    frames = _find_frames(store, text, {one.image_sha256 for one in snapshots}, say)
    if not snapshots and not frames:
        raise SettingsError(
            f"The store knows no picture {text}.",
            got=f"no pair and no frame of that name or checksum in {store.uri}",
            expected="a pair's id (NG/00007_NG), its key, a file, or at least "
            f"{LEAST_DIGITS} digits of its SHA-256",
            fix="Check --store; `defectline lineage VERSION --images` lists the pictures of a model.",
        )
    return ImageLineage(snapshots, _uses(store, snapshots, say), frames)


def _finder(text: str) -> Callable[[Pair], bool]:
    path = Path(text)
    if path.is_file():
        digest = sha256_file(path)
        return lambda row: digest in (row.image_sha256, row.mask_sha256)
    named = {text, text.removesuffix("_Image")}
    digits = text.lower() if _is_checksum(text) else "no checksum"
    return lambda row: (
        row.id in named or text in (row.image_key, row.mask_key) or row.image_sha256.startswith(digits)
    )


def _is_checksum(text: str) -> bool:
    return LEAST_DIGITS <= len(text) <= 64 and not set(text.lower()) - set("0123456789abcdef")


def _entry(snapshot: Snapshot, head: str | None, row: Pair) -> SnapshotEntry:
    return SnapshotEntry(
        snapshot.id,
        snapshot.created,
        snapshot.id == head,
        row.id,
        row.status,
        row.split,
        row.reason,
        row.image_sha256,
    )


def _uses(store: Storage, found: Sequence[SnapshotEntry], say: Say) -> list[ModelUse]:
    runs = read_runs(store, say)
    accepted = [one for one in found if one.status == "accepted"]
    uses = []
    for model in read_models(store, runs, say):
        for one in accepted:
            if one.snapshot == model.snapshot and one.split in USES:
                judged = _verdicts(store, model.run, say) if one.split == "test" else {}
                verdict, score = judged.get(one.id, ("", None))
                uses.append(
                    ModelUse(model.name, model.version, model.state, USES[one.split], one.id, verdict, score)
                )
    return uses


def _verdicts(store: Storage, run: str, say: Say) -> dict[str, tuple[str, float]]:
    """Id of each test picture of a run → the model's verdict and score; empty where that is gone."""
    if not run:
        # Its metrics.json is damaged, which is told already.
        return {}
    key = run_key(run, COUNTS)
    try:
        return {row["id"]: (row["verdict"], row["score"]) for row in json.loads(store.read(key))}
    except KeyError:
        return {}
    except (ValueError, TypeError):
        leave_out(store, key, say)
        return {}


def _find_frames(store: Storage, text: str, digests: set[str], say: Say) -> list[Reviewed]:
    """The frames with these pictures. A frame's id begins the SHA-256 of its picture."""
    wanted = {digest[:32] for digest in digests}
    if Path(text).is_file():
        wanted.add(sha256_file(Path(text))[:32])
    start = text.lower()[:32] if _is_checksum(text) else "no checksum"
    return [
        Reviewed(
            frame.id,
            frame.model,
            frame.version,
            frame.taken,
            frame.reason,
            str(frame.prediction.get("verdict", "")),
            decision.verdict if decision and decision.verdict != "open" else "",
            decision.exported if decision else (),
        )
        for _, frame, decision, _ in list_frames(
            store, "", say, lambda key: key.id in wanted or key.id.startswith(start)
        )
    ]


def as_json(lineage: ModelLineage, images: bool) -> dict[str, Any]:
    """What `lineage VERSION --json` prints."""
    run = lineage.run
    return {
        **lineage.model._asdict(),
        "run": run
        and {
            "id": run.id,
            "state": run.state,
            "reason": run.outcome.reason if run.outcome else "",
            "began": run.began,
            "ended": run.ended,
        },
        "compared_with": run and str(run.metrics.get("champion", "")),
        "gate": run.gate if run else [],
        "snapshot": lineage.snapshot and lineage.snapshot.model_dump(),
        "images": count(lineage.pictures),
        **({"pictures": [one._asdict() for one in lineage.pictures]} if images else {}),
    }
