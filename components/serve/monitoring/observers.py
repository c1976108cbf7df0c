"""Whoever wants to know of answers: called after them, on a thread of its own, never on their way.

An observer is a callable that takes an `Observed`; add it to `Observers.callables` before the server starts.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle
from defectline.components.common.inspection import answer, judge_score, to_prediction
from defectline.components.serve.monitoring.logs import log
from defectline.components.serve.monitoring.metrics import Metrics

HELD_BYTES = 128_000_000
"""In pictures that wait for observers; what exceeds it is dropped, and counted."""


class Observed(NamedTuple):
    """One answered picture."""

    picture: bytes
    """As it came, encoded."""
    image: NDArray[np.uint8]
    """(H, W, channels), decoded; not to be changed."""
    levels: NDArray[np.uint16]
    """(H, W), what the network says in thousandths; not to be changed."""
    prediction: dict[str, Any]
    """What was answered, with its regions and without its mask."""
    mask: NDArray[np.uint8]
    """(H, W), 1 in the regions."""
    request_id: str
    protocol: str
    bundle: Bundle
    """Of the model that judged."""
    threshold: float
    """That it was judged by: the model's own, or the caller's."""

    @property
    def size(self) -> int:
        return len(self.picture) + self.image.nbytes + self.levels.nbytes + self.mask.nbytes

    @property
    def verdict(self) -> str:
        """By the model's own threshold, whatever the caller's was."""
        return judge_score(self.prediction["score"], self.bundle.threshold)

    def own_prediction(self) -> dict[str, Any]:
        """What is answered where the caller brings no threshold, with mask and version."""
        found = answer(self.levels, self.bundle.threshold, self.bundle.min_area_px)
        return {**to_prediction(found, self.bundle.grades), "model_version": self.bundle.version}


class Observers:
    def __init__(self, metrics: Metrics):
        self.callables: list[Callable[[Observed], None]] = []
        self._metrics = metrics
        self._queue: queue.SimpleQueue[Observed | None] = queue.SimpleQueue()
        self._held, self._lock = 0, threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, observed: Observed) -> None:
        """Hand an answer over; returns at once. From any thread."""
        if not self.callables:
            return
        with self._lock:
            if self._held and self._held + observed.size > HELD_BYTES:
                self._metrics.unobserved.inc()
                return
            self._held += observed.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="observe", daemon=True)
                self._thread.start()
        self._queue.put(observed)

    def close(self, timeout_s: float = 10) -> None:
        """Wait until all that was told has been seen."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while (observed := self._queue.get()) is not None:
            for callable_ in self.callables:
                try:
                    callable_(observed)
                except Exception:
                    # The next answer may be seen again, and answers never depend on who looks at them.
                    log("an observer failed", 40, exc_info=True, observer=getattr(callable_, "__name__", ""))
            with self._lock:
                self._held -= observed.size
            del observed  # Or it would stay in memory until the next one comes.
