"""What a model was made of, and what a picture went into."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from defectline.components.common.checksums import sha256_file
from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.layout import COUNTS, REVIEW, parse_frame_key, run_key
from defectline.components.common.review import Decision, Frame
from defectline.components.common.snapshot import (
    SPLITS,
    Pair,
    Snapshot,
    list_snapshots,
    read_head,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.pipeline.catalog.inventory import Model, Run, read_models, read_runs, resolve

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


class Origin(NamedTuple):
    """A model, and what it came from."""

    model: Model
    run: Run | None
    """None where its files are gone."""
    snapshot: Snapshot | None
    """None where it is gone or not known."""
    pictures: list[Picture]


class Presence(NamedTuple):
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


class Use(NamedTuple):
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
    """What people said that the part is; empty where nobody has decided."""
    exported: tuple[str, ...]


class Traces(NamedTuple):
    """Where a picture is and was."""

    snapshots: list[Presence]
    models: list[Use]
    frames: list[Reviewed]


def is_version(text: str) -> bool:
    """Whether this is a version or the start of one, and no picture."""
    return len(text) > 1 and text[0] == "v" and text[1:].replace("-", "").isalnum() and text[1].isdigit()


def trace_model(store: Storage, start: str, say: Say) -> Origin:
    """What the version `start`, or the one that begins so, was made of. Raises SettingsError for another."""
    runs = read_runs(store, say)
    models = {model.version: model for model in read_models(store, runs, say)}
    model = models[resolve(start, list(models), "version", "defectline models")]
    run = next((run for run in runs if run.id == model.run), None)
    if not model.snapshot:
        return Origin(model, run, None, [])
    try:
        snapshot, rows = read_snapshot(store, model.snapshot), read_pairs(store, model.snapshot)
    except StoreError as error:
        say(str(error).splitlines()[0])
        return Origin(model, run, None, [])
    verdicts = _verdicts(store, model.run, say)
    return Origin(model, run, snapshot, [_picture(row, verdicts) for row in rows if row.accepted])


def _picture(row: Pair, verdicts: Mapping[str, tuple[str, float]]) -> Picture:
    verdict, score = verdicts.get(row.id, ("", None)) if row.split == "test" else ("", None)
    return Picture(row.id, row.label, row.split, row.image_sha256, row.image_key, verdict, score)


def count(pictures: Iterable[Picture]) -> dict[str, dict[str, int]]:
    """How many pictures of each split and label. Pure."""
    found = Counter((picture.split, picture.label) for picture in pictures)
    return {split: {label: found[split, label] for label in LABELS} for split in SPLITS}


def trace_picture(store: Storage, text: str, say: Say) -> Traces:
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
        snapshots += [_presence(snapshot, head, row) for row in rows if fits(row)]
    frames = _find_frames(store, text, {one.image_sha256 for one in snapshots}, say)
    if not snapshots and not frames:
        raise SettingsError(
            f"The store knows no picture {text}.",
            got=f"no pair and no frame of that name or checksum in {store.uri}",
            expected="a pair's id (NG/00007_NG), its key, a file, or at least "
            f"{LEAST_DIGITS} digits of its SHA-256",
            fix="Check --store; `defectline lineage VERSION --images` lists the pictures of a model.",
        )
    return Traces(snapshots, _uses(store, snapshots, say), frames)


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


def _presence(snapshot: Snapshot, head: str | None, row: Pair) -> Presence:
    return Presence(
        snapshot.id,
        snapshot.created,
        snapshot.id == head,
        row.id,
        row.status,
        row.split,
        row.reason,
        row.image_sha256,
    )


def _uses(store: Storage, found: Sequence[Presence], say: Say) -> list[Use]:
    runs = read_runs(store, say)
    accepted = [one for one in found if one.status == "accepted"]
    uses = []
    for model in read_models(store, runs, say):
        for one in accepted:
            if one.snapshot == model.snapshot and one.split in USES:
                judged = _verdicts(store, model.run, say) if one.split == "test" else {}
                verdict, score = judged.get(one.id, ("", None))
                uses.append(
                    Use(model.name, model.version, model.state, USES[one.split], one.id, verdict, score)
                )
    return uses


def _verdicts(store: Storage, run: str, say: Say) -> dict[str, tuple[str, float]]:
    """Id of each test picture of a run → the model's verdict and score; empty where that is gone."""
    key = run_key(run, COUNTS)
    try:
        return {row["id"]: (row["verdict"], row["score"]) for row in json.loads(store.read(key))}
    except KeyError:
        return {}
    except (ValueError, TypeError):
        say(f"{store.url(key)} cannot be read and is left out")
        return {}


def _find_frames(store: Storage, text: str, digests: set[str], say: Say) -> list[Reviewed]:
    """The frames with these pictures. A frame's id begins the SHA-256 of its picture."""
    wanted = {digest[:32] for digest in digests}
    if Path(text).is_file():
        wanted.add(sha256_file(Path(text))[:32])
    start = text.lower()[:32] if _is_checksum(text) else "no checksum"
    keys = [key for one in store.list(REVIEW) if (key := parse_frame_key(one.key))]
    frames = []
    for key in sorted(keys):
        if key.id in wanted or key.id.startswith(start):
            try:
                frame = Frame.model_validate_json(store.read(key.frame))
                decided = store.read_versioned(key.decision)
                decision = Decision.model_validate_json(decided[0]) if decided else None
            except (KeyError, ValidationError):
                say(f"{store.url(key.frame)} cannot be read and is left out")
                continue
            frames.append(
                Reviewed(
                    frame.id,
                    frame.model,
                    frame.version,
                    frame.taken,
                    frame.reason,
                    str(frame.prediction.get("verdict", "")),
                    decision.verdict if decision else "",
                    decision.exported if decision else (),
                )
            )
    return frames


def origin_as_json(origin: Origin, images: bool) -> dict[str, Any]:
    """What `lineage VERSION --json` prints."""
    run = origin.run
    return {
        **origin.model._asdict(),
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
        "snapshot": origin.snapshot and origin.snapshot.model_dump(),
        "images": count(origin.pictures),
        **({"pictures": [one._asdict() for one in origin.pictures]} if images else {}),
    }
