"""Frames of the line on their way to the labelled images: look, decide, export into a source."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from defectline.components.common.classes import LABELS, defect_mask
from defectline.components.common.errors import Conflict, SettingsError, SourceError, StoreError
from defectline.components.common.images.colours import encode_numbers
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.layout import REVIEW, FrameKey, parse_frame_key, review_prefix
from defectline.components.common.review import Decision, Frame, Verdict
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.ingest.labels.class_file import CLASSES_KEY, parse_class_file
from defectline.pipeline.catalog.reading import leave_out, resolve

READERS = 8


class Item(NamedTuple):
    key: FrameKey
    frame: Frame
    decision: Decision | None

    @property
    def state(self) -> str:
        """`open`, `accepted OK`, `accepted NG`, or the same with `exported`."""
        if self.decision is None:
            return "open"
        return f"{'exported' if self.decision.exported else 'accepted'} {self.decision.verdict}"

    @property
    def picture_key(self) -> str:
        return self.key.folder + self.frame.picture


class Exported(NamedTuple):
    new: list[str]
    """Keys of the pictures that were written."""
    there: int
    """Accepted frames that the source had already."""
    conflicts: list[str]
    """Frames that the source has under the other label."""


def list_frames(
    store: Storage, model: str, say: Say, wanted: Callable[[FrameKey], bool] = lambda _: True
) -> list[Item]:
    """The wanted frames of a model, or with "" of all, with what was decided, the oldest first. What cannot
    be read is named and left out."""
    keys = filter(wanted, _keys(store, model))
    with ThreadPoolExecutor(READERS) as readers:
        items = list(readers.map(lambda key: _read(store, key, say), keys))
    return sorted((item for item in items if item), key=lambda item: (item.frame.taken, item.frame.id))


def accept(store: Storage, model: str, start: str, verdict: Verdict, mask: bytes | None = None) -> Item:
    """Decide what the part in a frame really is; `start` is its id, or a start that no other has.

    A defective part's mask is the predicted one unless the file of another is given. Deciding again replaces
    what was decided, until it is exported. Raises SettingsError for what cannot be decided like that, and
    Conflict where another process decides at the same time.
    """
    keys = {key.id: key for key in _keys(store, model)}
    key = keys[resolve(start, list(keys), "frame", "defectline review list")]
    frame = _frame(store, key)
    before = store.read_versioned(key.decision)
    old = Decision.model_validate_json(before[0]) if before else None
    if old and old.exported:
        raise SettingsError(
            f"{key.id} has been exported as {old.verdict}.",
            got=f"--as {verdict}",
            expected="a frame that is not in a source yet",
            fix=f"Change the pair in {old.exported[0]}: its names begin with review-{key.id}.",
        )
    name = ""
    if mask is None:
        _check_predicted(frame, verdict)
    else:
        drawn = _checked_mask(frame, verdict, mask)
        name = f"{key.id}.mask-{hashlib.sha256(drawn).hexdigest()[:12]}.png"
        store.write(key.folder + name, drawn)
    decision = Decision(verdict=verdict, decided=_now(), mask=name)
    store.compare_and_swap(key.decision, _encoded(decision), before and before[1])
    return Item(key, frame, decision)


def export(store: Storage, model: str, source: Storage, say: Say) -> Exported:
    """Add the accepted frames of a model to a source; what it has already, it does not get again.

    Neither does it get what was exported to it and is no longer there. Raises SourceError where `source` has
    no pictures.
    """
    labelled = _Labelled(source)
    if not labelled.sizes:
        raise SourceError(
            f"{source.uri} is not a source of labelled images.",
            got="no picture in OK/ or NG/",
            expected="the labelled images that the pipeline learns from",
            fix="Correct --source; a new source needs its first pictures before frames are added.",
        )
    done = Exported([], 0, [])
    for item in list_frames(store, model, say):
        if item.decision is None:
            continue
        if source.uri in item.decision.exported:
            done = done._replace(there=done.there + 1)
            continue
        picture = _file(store, item.picture_key)
        # Under its own name it counts as there even where it was retouched since.
        labels = labelled.labels_of(picture)
        labels |= {label for label in LABELS if _exported_key(item, label) in labelled.sizes}
        if labels - {item.decision.verdict}:
            done.conflicts.append(item.frame.id)
        elif labels:
            # It was labelled otherwise, or an export was cut off just before it was noted.
            _note(store, item, source)
            done = done._replace(there=done.there + 1)
        else:
            mask, key = _mask(store, item, source), _exported_key(item, item.decision.verdict)
            # In this order no run reads a picture without its mask. Where good ones have none, one mask would
            # make all others need one.
            if item.decision.verdict == "NG" or labelled.masks_of_good:
                source.write(f"{item.decision.verdict}_MSK/review-{item.frame.id}.png", mask)
            source.write(key, picture)
            _note(store, item, source)
            done.new.append(key)
    return done


class _Labelled:
    """The pictures of a source by what is in them: a frame may be there under any name."""

    def __init__(self, source: Storage):
        self._source = source
        self.sizes = {found.key: found.size for label in LABELS for found in source.list(f"{label}/")}
        self.masks_of_good = next(iter(source.list("OK_MSK/")), None) is not None
        self._digests: dict[str, str] = {}

    def labels_of(self, picture: bytes) -> set[str]:
        """The labels under which the source has these bytes; reads pictures of their size, each once."""
        alike = [key for key, size in self.sizes.items() if size == len(picture)]
        unread = [key for key in alike if key not in self._digests]
        with ThreadPoolExecutor(READERS) as readers:
            self._digests.update(zip(unread, readers.map(self._digest, unread), strict=True))
        digest = hashlib.sha256(picture).hexdigest()
        return {key.partition("/")[0] for key in alike if self._digests[key] == digest}

    def _digest(self, key: str) -> str:
        return hashlib.sha256(self._source.read(key)).hexdigest()


def _keys(store: Storage, model: str) -> Iterator[FrameKey]:
    """Every whole frame of a model, or with "" of all, once; of one that came on two days the first."""
    prefix = review_prefix(model) if model else REVIEW
    keys = [key for found in store.list(prefix) if (key := parse_frame_key(found.key))]
    seen: set[tuple[str, str]] = set()
    for key in sorted(keys):
        if (key.model, key.id) not in seen:
            seen.add((key.model, key.id))
            yield key


def _read(store: Storage, key: FrameKey, say: Say) -> Item | None:
    try:
        frame = _frame(store, key)
        decided = store.read_versioned(key.decision)
        return Item(key, frame, Decision.model_validate_json(decided[0]) if decided else None)
    except (StoreError, ValidationError) as error:
        leave_out(store, key.frame, say, str(error).splitlines()[0])
        return None


def _frame(store: Storage, key: FrameKey) -> Frame:
    try:
        return Frame.model_validate_json(store.read(key.frame))
    except ValidationError as error:
        raise StoreError(
            f"{store.url(key.frame)} is damaged.",
            got=error.errors()[0]["msg"],
            expected=f"the fields {', '.join(Frame.model_fields)}",
            fix="Remove the frame, its picture and its JSON.",
        ) from error


def _check_predicted(frame: Frame, verdict: Verdict) -> None:
    if verdict == "NG" and not _predicted(frame).any():
        raise SettingsError(
            f"The mask of {frame.id} is empty.",
            got="a frame where the model found nothing, accepted as NG",
            expected="a mask that marks the defect",
            fix="Draw one, white on black at the frame's size, and name it with --mask.",
        )


def _checked_mask(frame: Frame, verdict: Verdict, mask: bytes) -> bytes:
    """The mask as PNG: of 1 bit, or with the source's numbers of classes where the model knows several."""
    several = len(_classes(frame)) > 1
    if verdict == "OK":
        raise SettingsError(
            "A good part has no mask.",
            got="--mask with --as OK",
            expected="--mask with --as NG",
            fix="Leave --mask out, or accept the frame as NG.",
        )
    try:
        drawn = decode_mask(mask, numbered=several)
    except UnreadableImage as error:
        raise SettingsError(
            f"The file of --mask is not a mask for {frame.id}.",
            got=error.got,
            expected="a PNG with the defect white on black"
            if not several
            else "a PNG with the number of its class, as classes.csv has it, in each pixel",
            fix="Draw it at the frame's own size.",
        ) from error
    expected = _predicted(frame).shape
    if drawn.shape != expected or not defect_mask(drawn).any():
        size = f"{drawn.shape[1]}×{drawn.shape[0]}"
        raise SettingsError(
            f"The mask does not fit {frame.id}.",
            got=size if defect_mask(drawn).any() else f"{size}, without a defect",
            expected=f"{expected[1]}×{expected[0]}, with the defect white"
            if not several
            else f"{expected[1]}×{expected[0]}, with numbers of classes",
            fix="Draw it at the frame's own size.",
        )
    return encode_numbers(drawn) if several else encode_mask(drawn)


def _classes(frame: Frame) -> list[str]:
    """Those of the model, where it knows several."""
    return list(frame.prediction.get("class_areas_px") or ())


def _predicted(frame: Frame) -> np.ndarray:
    """(H, W), the numbers of the model's classes."""
    return decode_mask(base64.b64decode(frame.prediction["mask_png"]), numbered=True)


def _as_source(predicted: np.ndarray, classes: Sequence[str], source: Storage) -> bytes:
    """A predicted mask with the numbers that the source has for the classes in it. Raises SourceError."""
    values = {name: number for number, name in enumerate(class_names_of(source), start=1)}
    table = np.zeros(256, np.uint8)
    for number in np.unique(predicted[predicted > 0]).tolist():
        name = classes[number - 1]
        # Without names, the numbers themselves are the names.
        if name not in values and not (name.isdecimal() and not values):
            raise SourceError(
                f"{source.uri} has no number for the class {name}.",
                got=", ".join(values) or f"no {CLASSES_KEY}",
                expected=f"the class {name}",
                fix=f"Write a row for it into {CLASSES_KEY}, or draw a mask and name it with --mask.",
            )
        table[number] = values.get(name) or int(name)
    return encode_numbers(table[predicted])


def class_names_of(source: Storage) -> list[str]:
    """What the source calls the values 1, 2, … of its masks; empty where it does not say."""
    if not source.exists(CLASSES_KEY):
        return []
    names = json.loads(parse_class_file(source.read(CLASSES_KEY)) or "[]")
    return [names] if isinstance(names, str) else names


def _mask(store: Storage, item: Item, source: Storage) -> bytes:
    assert item.decision
    if item.decision.mask:
        return _file(store, item.key.folder + item.decision.mask)
    predicted, classes = _predicted(item.frame), _classes(item.frame)
    if item.decision.verdict == "NG" and len(classes) > 1:
        return _as_source(predicted, classes, source)
    return encode_mask(predicted if item.decision.verdict == "NG" else np.zeros_like(predicted))


def _file(store: Storage, key: str) -> bytes:
    try:
        return store.read(key)
    except KeyError as error:
        raise StoreError(
            f"{store.url(key)} is missing.",
            got="a frame without it",
            expected="every file of a frame, for as long as its JSON is there",
            fix="Remove the frame's other files too, or bring this one back; then export again.",
        ) from error


def _exported_key(item: Item, label: str) -> str:
    suffix = item.frame.picture.rpartition(".")[2]
    return f"{label}/review-{item.frame.id}.{suffix}"


def _note(store: Storage, item: Item, source: Storage) -> None:
    """Write into the decision where its pair went, unless it was decided again meanwhile."""
    assert item.decision
    found = store.read_versioned(item.key.decision)
    if found is None or Decision.model_validate_json(found[0]) != item.decision:
        raise Conflict(
            f"{item.key.id} was decided again while it was exported as {item.decision.verdict}.",
            got="another decision",
            expected="no other decision about it at that moment",
            fix=f"Look at review-{item.key.id} in {source.uri}, and correct it there.",
        )
    noted = item.decision.model_copy(update={"exported": (*item.decision.exported, source.uri)})
    store.compare_and_swap(item.key.decision, _encoded(noted), found[1])


def _encoded(decision: Decision) -> bytes:
    return decision.model_dump_json(indent=2).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_rows(store: Storage, items: Sequence[Item]) -> list[dict[str, object]]:
    """What `review list --json` prints."""
    return [
        {
            "id": item.frame.id,
            "date": item.frame.taken,
            "verdict": item.frame.prediction["verdict"],
            "score": item.frame.prediction["score"],
            "threshold": item.frame.threshold,
            "reason": item.frame.reason,
            "version": item.frame.version,
            "state": item.state,
            "picture": store.url(item.picture_key),
            "exported": list(item.decision.exported) if item.decision else [],
        }
        for item in items
    ]
