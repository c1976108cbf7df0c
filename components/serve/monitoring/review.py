"""Keeps some frames for people to look at: those in doubt, those unlike the training pictures, and a random
share of all.

One thread writes them to the store; an answer never waits for it. What does not fit is dropped and counted. A
day has so many places: a frame that teaches more takes that of one that teaches less, unless a person has
decided about it.
"""

import base64
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter
from pydantic import ValidationError

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import Conflict, DefectlineError
from defectline.components.common.images.reading import format_of
from defectline.components.common.inference.novelty import Features, Novelty
from defectline.components.common.layout import FrameKey, parse_frame_key, review_prefix
from defectline.components.common.review import SUFFIXES, Frame, Reason, frame_id
from defectline.components.common.storage import Storage
from defectline.components.serve.monitoring.observers import Observation
from defectline.components.serve.monitoring.places import Kept, Places, worth
from defectline.components.serve.settings import ReviewSettings

MOST_WAITING = 64
MOST_WAITING_BYTES = 64 << 20
LIST_EVERY_S = 60.0
"""How often the frames of today are counted in the store, where other replicas write as well."""
LOG_EVERY_S = 60.0

WRITTEN = Counter("defectline_review_written", "Frames that were kept for review.")
FAILED = Counter("defectline_review_failed", "Frames that could not be written to the store.")
DROPPED = Counter(
    "defectline_review_dropped",
    "Frames that were not kept: too many were waiting, the day's places were taken, or the server ended.",
    ["reason"],
)
DROPS = ("queue_full", "day_full", "stopped")
for _reason in DROPS:
    DROPPED.labels(_reason)  # shown as 0 before the first
log = logging.getLogger("defectline.review")


class _Waiting(NamedTuple):
    picture: bytes
    threshold: float
    prediction: Mapping[str, Any]
    reason: Reason
    worth: float
    taken: datetime
    novelty: Novelty | None = None
    features: Features | None = None
    """Of a novel one."""


def expose(registry: CollectorRegistry) -> None:
    """Add the counters to a registry."""
    for counter in (WRITTEN, FAILED, DROPPED):
        registry.register(counter)


class Reviewer:
    """Keeps frames under the name of one model, whichever version judges them; safe to use from several
    threads. Nothing is read or written yet."""

    def __init__(self, store: Storage, model: str, settings: ReviewSettings | None = None):
        self._store, self._model = store, model
        self._settings = settings or ReviewSettings()
        self._wake = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._closed = False
        # Only the thread uses these.
        self._known: set[str] = set()
        self._day, self._places = "", Places(self._settings.review_per_day)
        self._evicts = True
        self._listed_whole, self._listed = False, -math.inf
        self._logged = -math.inf
        # A daemon, so that a store that hangs does not keep the process.
        self._thread = threading.Thread(target=self._run, name="review", daemon=True)
        self._thread.start()

    def observe(self, observation: Observation) -> None:
        """Offer an answered picture of the line, with what the model says by its own threshold."""
        if observation.review is False:
            return
        self.offer(
            observation.picture,
            observation.prediction["score"],
            observation.bundle,
            observation.own_prediction,
            bool(observation.review),
            observation.novelty,
            observation.maps.features,
            observation.prediction["defect_area_ratio"],
        )

    def offer(
        self,
        picture: bytes,
        score: float,
        bundle: Bundle,
        predict: Callable[[], Mapping[str, Any]],
        asked: bool = False,
        novelty: Novelty | None = None,
        features: Features | None = None,
        area_ratio: float = 0.0,
    ) -> bool:
        """Keep the frame if it is one for review; waits for no store. Returns whether it will be tried.

        `picture` is the file as it was sent. `predict` is called only for a frame that is kept. It returns
        what the endpoint answers by the levels of the `bundle`, with `model_version` and `mask_png`, and is
        not changed. One that was `asked` for teaches most. `features` are what the `novelty` of the bundle's
        training pictures is about.
        """
        reason: Reason = "asked" if asked else "near_level"
        value = 1.0 if asked else worth(score, bundle, self._settings.review_margin, area_ratio)
        if value is None and novelty and (novel := novelty.judge(features, self._settings.review_margin)):
            reason, value = "novel", novel.worth
        if value is None:
            # Of frames that were chosen by chance, chance keeps some.
            reason, value = "random", random.random()
            if random.random() >= self._settings.review_share:
                return False
        now = datetime.now(UTC)
        waiting = _Waiting(picture, bundle.threshold, predict(), reason, value, now)
        if reason == "novel":
            waiting = waiting._replace(novelty=novelty, features=features)
        with self._wake:
            if self._closed:
                return _drop("stopped")
            full = len(self._waiting) >= MOST_WAITING
            if full or self._bytes + len(picture) > MOST_WAITING_BYTES:
                return _drop("queue_full")
            self._waiting.append(waiting)
            self._bytes += len(picture)
            self._wake.notify()
        return True

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is waiting, for at most `timeout_s`; whether all was tried. The rest is dropped."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout_s)
        with self._wake:
            left = len(self._waiting)
            self._waiting.clear()
        DROPPED.labels("stopped").inc(left)
        return not left and not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                waiting = self._waiting.popleft()
            try:
                self._keep(waiting)
            # Whatever it is, it may not happen with the next frame.
            except Exception as error:
                FAILED.inc()
                self._warn(error)
            finally:
                with self._wake:
                    self._bytes -= len(waiting.picture)

    def _keep(self, waiting: _Waiting) -> None:
        key = FrameKey(self._model, f"{waiting.taken:%Y-%m-%d}", frame_id(waiting.picture))
        self._list(key.date)
        # One that had to go is kept all the same where somebody asks for it.
        if key.id in self._places.kept or (key.id in self._known and waiting.reason != "asked"):
            return
        kept = Kept(waiting.reason, waiting.prediction["verdict"], waiting.worth)
        if waiting.novelty:
            # Beside what the day has already: of many frames of one kind, the first is enough.
            margin, there = self._settings.review_margin, self._places.novel
            novel = waiting.novelty.judge(waiting.features, margin, there)
            if novel is None:
                return
            kept = kept._replace(worth=novel.worth, features=novel.farthest)
        if not self._make_room(key.date, kept):
            _drop("day_full")
            return
        suffix = SUFFIXES[format_of(waiting.picture)]
        frame = Frame(
            id=key.id,
            model=self._model,
            version=waiting.prediction["model_version"],
            taken=waiting.taken.isoformat(timespec="milliseconds"),
            reason=waiting.reason,
            worth=round(kept.worth, 6),
            features=_pack(kept.features),
            threshold=waiting.threshold,
            picture=f"{key.id}.{suffix}",
            prediction=dict(waiting.prediction),
        )
        self._store.write(key.folder + frame.picture, waiting.picture)
        try:
            self._store.compare_and_swap(key.frame, frame.model_dump_json(indent=2).encode(), None)
        except Conflict:
            pass  # another replica was sent the same picture
        else:
            WRITTEN.inc()
        self._known.add(key.id)
        self._places.kept[key.id] = kept

    def _make_room(self, day: str, frame: Kept) -> bool:
        """Whether the day has a place for the frame, if need be that of one of less worth, which goes."""
        while (id := self._places.make_room(frame)) is not None:
            if not id:
                return True
            if not self._evicts or not self._remove(FrameKey(self._model, day, id)):
                return False
        return False

    def _remove(self, key: FrameKey) -> bool:
        """Remove a frame that nobody has decided about; whether it may be. A decided one stays."""
        kept = self._places.kept
        if self._store.exists(key.decision):
            kept[key.id] = kept[key.id]._replace(decided=True)
            return True
        try:
            found = self._read(key)
            # Without its JSON a frame is none, so a reader sees it whole or not at all.
            for name in (key.frame, found and key.folder + found.picture):
                if name:
                    self._store.delete(name)
        except KeyError:
            log.debug("%s was removed by another replica", key.frame)
        except DefectlineError as error:
            # A store where it may only write: then the first frames of a day have its places.
            self._evicts = False
            self._warn(error)
            return False
        del kept[key.id]
        return True

    def _read(self, key: FrameKey) -> Frame | None:
        """None for one that is damaged, or of a later version."""
        try:
            return Frame.model_validate_json(self._store.read(key.frame))
        except ValidationError:
            return None

    def _list(self, day: str) -> None:
        """Read what the store has: all of it once, then the frames of today now and then."""
        now = time.monotonic()
        if day == self._day and now - self._listed < LIST_EVERY_S:
            return
        if day != self._day:
            self._day, self._places = day, Places(self._settings.review_per_day)
        self._listed = now
        prefix = review_prefix(self._model, day if self._listed_whole else "")
        try:
            listed = {found.key for found in self._store.list(prefix)}
        except DefectlineError as error:
            # A folder without frames yet is not an error, and any other shows when a frame is written.
            log.debug("the store cannot be listed: %s", error)
            return
        self._listed_whole = True
        keys = [key for key in map(parse_frame_key, listed) if key]
        self._known.update(key.id for key in keys)
        today = {key.id: key for key in keys if key.date == day}
        decided = {id for id, key in today.items() if key.decision in listed}
        old = self._places.kept
        kept = {id: old.get(id) or self._look_up(key) for id, key in today.items()}
        self._places.kept = {
            id: one._replace(decided=one.decided or id in decided) for id, one in kept.items()
        }

    def _look_up(self, key: FrameKey) -> Kept:
        """A frame that another replica wrote, or this one before it was started again."""
        try:
            found = self._read(key)
        except (KeyError, DefectlineError):
            found = None
        # What cannot be read has a place, and is left to people.
        if found is None:
            return Kept("near_level", "OK", 1.0, decided=True)
        features = _unpack(found.features)
        return Kept(found.reason, found.prediction["verdict"], found.worth, features=features)

    def _warn(self, error: Exception) -> None:
        """One line now and then: a store that is away would fill the log."""
        now = time.monotonic()
        if now - self._logged < LOG_EVERY_S:
            return
        self._logged = now
        if isinstance(error, DefectlineError):
            log.warning("frames for review are not kept: %s Got: %s. %s", error.what, error.got, error.fix)
        else:
            log.warning("frames for review are not kept", exc_info=error)


def _pack(features: Features | None) -> str:
    return "" if features is None else base64.b64encode(features.astype("<f2").tobytes()).decode()


def _unpack(text: str) -> Features | None:
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)[None] if text else None


def _drop(reason: str) -> bool:
    DROPPED.labels(reason).inc()
    return False
