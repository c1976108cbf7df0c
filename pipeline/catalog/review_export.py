"""Accepted frames of the line become labelled pairs of a source."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import Conflict, SourceError, StoreError
from defectline.components.common.images.colours import encode_numbers
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.review import Decision
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.ingest.labels.class_file import CLASSES_KEY, parse_class_file
from defectline.components.ingest.labels.corrections import Correction, parse_corrections, write_corrections
from defectline.components.ingest.readers.base import CORRECTIONS_FOLDER, CORRECTIONS_KEY
from defectline.pipeline.catalog.review import (
    READERS,
    Item,
    classes_of,
    encode_decision,
    list_frames,
    predicted_mask,
)


class Exported(NamedTuple):
    new: list[str]
    """Keys of the pictures that were written."""
    there: int
    """Accepted frames that the source had already."""
    conflicts: list[str]
    """Frames that the source has under the other label."""


def export(store: Storage, model: str, source: Storage, say: Say) -> Exported:
    """Add the accepted frames of a model to a source; what it has already, it does not get again. What was
    decided about labels of the source itself goes into its corrections.

    Neither does it get what was exported to it and is no longer there. Raises SourceError where `source` has
    no pictures.
    """
    items = [item for item in list_frames(store, model, say) if item.decided]
    labelled = _Labelled(source)
    # Labels are set right in any layout; frames of the line are added to folders.
    if not labelled.sizes and not (items and all(item.frame.source == source.uri for item in items)):
        raise SourceError(
            f"{source.uri} is not a source of labelled images.",
            got="no picture in OK/ or NG/",
            expected="the labelled images that the pipeline learns from",
            fix="Correct --source; a new source needs its first pictures before frames are added.",
        )
    done = Exported([], 0, [])
    for item in items:
        assert item.decision
        if source.uri in item.decision.exported:
            done = done._replace(there=done.there + 1)
            continue
        if item.frame.labelled:
            if item.frame.source == source.uri:
                done = _set_right(store, item, source, done)
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


def _set_right(store: Storage, item: Item, source: Storage, done: Exported) -> Exported:
    """Write what was decided about a label of the source into its corrections, unless it was right."""
    frame, decision = item.frame, item.decision
    assert decision
    if decision.verdict == frame.labelled and not decision.mask:
        _note(store, item, source)
        return done._replace(there=done.there + 1)
    mask = ""
    if decision.mask:
        # Before the row that names it.
        mask = f"{CORRECTIONS_FOLDER}{frame.id}.png"
        source.write(mask, _file(store, item.key.folder + decision.mask))
    names = "|".join(decision.classes)
    row = Correction(frame.image, decision.verdict, mask, names, decision.by, decision.decided)
    found = source.read_versioned(CORRECTIONS_KEY)
    others = parse_corrections(found[0]) if found else []
    rows = [*(other for other in others if other.image != row.image), row]
    source.compare_and_swap(CORRECTIONS_KEY, write_corrections(rows), found and found[1])
    _note(store, item, source)
    done.new.append(frame.image)
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
        drawn = _file(store, item.key.folder + item.decision.mask)
        if not item.decision.classes:
            return drawn
        return _as_source(decode_mask(drawn, numbered=True), item.decision.classes, source)
    predicted, classes = predicted_mask(item.frame), classes_of(item.frame)
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
    store.compare_and_swap(item.key.decision, encode_decision(noted), found[1])
