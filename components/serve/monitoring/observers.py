"""Observers are called after each answer, on a thread of their own, so that no answer waits for them.

An observer is a callable that takes an `Observation`; add it before the server starts.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle
from defectline.components.common.inference.inspection import Maps, judge, judge_score, to_prediction
from defectline.components.common.inference.novelty import Novelty
from defectline.components.serve.monitoring.logs import log
from defectline.components.serve.monitoring.metrics import Metrics

HELD_BYTES = 128_000_000
"""Of pictures that wait for observers; what exceeds it is dropped, and counted."""


class Observation(NamedTuple):
    """One answered picture."""

    picture: bytes
    """The incoming file, encoded."""
    image: NDArray[np.uint8]
    """(H, W, channels), decoded; not to be changed."""
    maps: Maps
    """What the network says; not to be changed."""
    prediction: dict[str, Any]
    """What was answered, with its regions and without its mask."""
    mask: NDArray[np.uint8]
    """(H, W), in the regions the numbers of their classes."""
    request_id: str
    protocol: str
    bundle: Bundle
    """Of the model that judged."""
    threshold: float
    """The one that was used: the model's own, or the caller's."""
    review: bool | None = None
    """Whether people are to review it; False for a picture that is not from the line, None where the caller
    leaves it to the endpoint."""
    novelty: Novelty | None = None
    """What the model's training pictures look like."""

    @property
    def size(self) -> int:
        return len(self.picture) + self.image.nbytes + self.maps.nbytes + self.mask.nbytes

    @property
    def verdict(self) -> str:
        """By the model's own threshold, even where the caller gave another."""
        return judge_score(self.prediction["score"], self.bundle.threshold, self.bundle.ng_from)

    def own_prediction(self) -> dict[str, Any]:
        """The answer at the model's own threshold, with mask and version."""
        bundle = self.bundle
        found = judge(self.maps, bundle.threshold, bundle.min_area_px, bundle.ng_from)
        return {**to_prediction(found, bundle.grades), "model_version": bundle.version}


class Observers:
    def __init__(self, metrics: Metrics):
        self._observers: list[Callable[[Observation], None]] = []
        self._metrics = metrics
        self._queue: queue.SimpleQueue[Observation | None] = queue.SimpleQueue()
        self._held, self._lock = 0, threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, observer: Callable[[Observation], None]) -> None:
        self._observers.append(observer)

    def notify(self, observation: Observation) -> None:
        """Queue an answer for the observers; returns at once. From any thread."""
        if not self._observers:
            return
        with self._lock:
            if self._held and self._held + observation.size > HELD_BYTES:
                self._metrics.unobserved.inc()
                return
            self._held += observation.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="observe", daemon=True)
                self._thread.start()
        self._queue.put(observation)

    def close(self, timeout_s: float = 10) -> None:
        """Wait until the observers have seen all that is queued."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while (observation := self._queue.get()) is not None:
            for observer in self._observers:
                try:
                    observer(observation)
                except Exception:
                    # It may succeed with the next answer, and the others go on.
                    log("an observer failed", 40, exc_info=True, observer=getattr(observer, "__name__", ""))
            with self._lock:
                self._held -= observation.size
            del observation  # Or it would stay in memory until the next one comes.
