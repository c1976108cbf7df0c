"""Frames of the line on their way to the labelled images: look, decide, export into a source."""

import base64
import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from defectline.components.common.classes import defect_mask
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.images.colours import encode_numbers
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.layout import REVIEW, FrameKey, parse_frame_key, review_prefix
from defectline.components.common.review import Decided, Decision, Frame
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.common.storage.base import conflict
from defectline.pipeline.catalog.audit import note_decision
from defectline.pipeline.catalog.reading import leave_out, resolve

READERS = 8
WHY = {"novel": "unlike the training images", "random": "by chance", "asked": "somebody asked for it"}
"""Why a frame was kept, where it was not in doubt."""

SMALL_PX = 20
"""A drawn defect of fewer pixels may be a slip of the hand."""
LARGE = 0.5
"""A drawn defect that covers more of its frame may be one, too."""
NO_MATTER = "whatever was decided before"


class Item(NamedTuple):
    key: FrameKey
    frame: Frame
    decision: Decision | None
    version: str | None = None
    """Of the decision, as the store has it; None where there is none."""

    @property
    def decided(self) -> bool:
        return self.decision is not None and self.decision.verdict != "open"

    @property
    def state(self) -> str:
        """`open`, `accepted OK`, `accepted NG`, or the same with `exported`."""
        if self.decision is None or not self.decided:
            return "open"
        return f"{'exported' if self.decision.exported else 'accepted'} {self.decision.verdict}"

    @property
    def picture_key(self) -> str:
        return self.key.folder + self.frame.picture


def teaches_most(item: Item) -> tuple[bool, float, str]:
    """To sort frames by, those first that teach most. The worth of those that came by chance is chance."""
    return item.frame.reason == "random", -item.frame.worth, item.frame.taken


def list_frames(
    store: Storage, model: str, say: Say, wanted: Callable[[FrameKey], bool] = lambda _: True
) -> list[Item]:
    """The wanted frames of a model, or with "" of all, with what was decided, the oldest first. What cannot
    be read is named and left out."""
    keys = filter(wanted, _keys(store, model))
    with ThreadPoolExecutor(READERS) as readers:
        items = list(readers.map(lambda key: _read(store, key, say), keys))
    return sorted((item for item in items if item), key=lambda item: (item.frame.taken, item.frame.id))


def find_frame(store: Storage, model: str, start: str) -> FrameKey:
    """Where the frame is whose id begins with `start`, as no other does. Raises SettingsError."""
    keys = {key.id: key for key in _keys(store, model)}
    return keys[resolve(start, list(keys), "frame", "defectline review list")]


def models_with_frames(store: Storage) -> list[str]:
    """The names of the models that frames were kept of."""
    return sorted({key.model for found in store.list(REVIEW) if (key := parse_frame_key(found.key))})


def find_ids(store: Storage, model: str) -> set[str]:
    """The ids of all frames of a model."""
    return {key.id for key in _keys(store, model)}


def accept(
    store: Storage,
    model: str,
    start: str,
    verdict: Decided,
    mask: bytes | None = None,
    by: str = "",
    seen: str | None = NO_MATTER,
    classes: Sequence[str] = (),
) -> Item:
    """Decide what the part in a frame really is; `start` is its id, or a start that no other has.

    A defective part's mask is the predicted one unless the file of another is given. Deciding again replaces
    what was decided, until it is exported; `open` takes it back. `by` is noted in the audit file. With
    `seen`, the version of the decision that one has in view, a newer one is not replaced. `classes` are the
    names of the numbers in `mask`, where they are not those of the source. Raises SettingsError for what
    cannot be decided like that, and Conflict where another process has decided meanwhile.
    """
    key = find_frame(store, model, start)
    frame = _frame(store, key)
    before = store.read_versioned(key.decision)
    if seen != NO_MATTER and seen != (before and before[1]):
        raise conflict(store.url(key.decision))
    old = Decision.model_validate_json(before[0]) if before else None
    if old and old.exported:
        raise SettingsError(
            f"{key.id} has been exported as {old.verdict}.",
            got=f"--as {verdict}",
            expected="a frame that is not in a source yet",
            fix=f"Change the pair in {old.exported[0]}: its names begin with review-{key.id}.",
        )
    name = digest = ""
    if verdict == "open" or mask is None:
        _checkpredicted_mask(frame, verdict)
    else:
        drawn = _checked_mask(frame, verdict, mask)
        digest = hashlib.sha256(drawn).hexdigest()
        name = f"{key.id}.mask-{digest[:12]}.png"
        store.write(key.folder + name, drawn)
    named = tuple(classes) if name else ()
    by = printable(by)
    decision = Decision(verdict=verdict, decided=_now(), by=by, mask=name, classes=named)
    store.compare_and_swap(key.decision, encode_decision(decision), before and before[1])
    note_decision(store, model, decision.decided, by, key.id, verdict, digest)
    return read_item(store, key)


def printable(name: str) -> str:
    """The name in one line, without what changes how others are shown: control characters and the like."""
    return " ".join("".join(c for c in name if c.isspace() or unicodedata.category(c)[0] != "C").split())


def doubts(frame: Frame, verdict: str, mask: bytes | None = None) -> str:
    """What is odd about a decision, to ask once more; "" for nothing. Raises SettingsError as `accept`."""
    if verdict != "NG":
        return ""
    predicted = defect_mask(predicted_mask(frame))
    drawn = predicted if mask is None else defect_mask(decode_mask(_checked_mask(frame, "NG", mask), True))
    if 0 < (area := int(drawn.sum())) < SMALL_PX:
        return f"The mask has only {area} px."
    if area > LARGE * drawn.size:
        return f"The mask covers {area / drawn.size:.0%} of the frame."
    if frame.labelled is None and mask is not None and predicted.any() and not (drawn & predicted).any():
        return "The mask is nowhere near what the model found."
    return ""


def read_item(store: Storage, key: FrameKey) -> Item:
    """A frame with what was decided. Raises StoreError for a damaged one."""
    frame, decided = _frame(store, key), store.read_versioned(key.decision)
    if decided is None:
        return Item(key, frame, None)
    return Item(key, frame, Decision.model_validate_json(decided[0]), decided[1])


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
        return read_item(store, key)
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


def _checkpredicted_mask(frame: Frame, verdict: str) -> None:
    if verdict == "NG" and not predicted_mask(frame).any():
        raise SettingsError(
            f"The mask of {frame.id} is empty.",
            got="a frame where the model found nothing, accepted as NG",
            expected="a mask that marks the defect",
            fix="Draw one, white on black at the frame's size, and name it with --mask.",
        )


def _checked_mask(frame: Frame, verdict: str, mask: bytes) -> bytes:
    """The mask as PNG: of 1 bit, or with the source's numbers of classes where the model knows several."""
    several = len(classes_of(frame)) > 1
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
            f"This is not a mask for {frame.id}.",
            got=error.got,
            expected="a PNG with the defect white on black"
            if not several
            else "a PNG with the number of its class, as classes.csv has it, in each pixel",
            fix="Draw it at the frame's own size.",
        ) from error
    expected = predicted_mask(frame).shape
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


def classes_of(frame: Frame) -> list[str]:
    """Those of the model, where it knows several."""
    return list(frame.prediction.get("class_areas_px") or ())


def predicted_mask(frame: Frame) -> np.ndarray:
    """(H, W), the numbers of the model's classes."""
    return decode_mask(base64.b64decode(frame.prediction["mask_png"]), numbered=True)


def encode_decision(decision: Decision) -> bytes:
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
