"""Keeps a step's record in the store, beside the step, which neither waits for it nor fails because of it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from defectline.components.common.reporting.memory import read_memory
from defectline.components.common.reporting.pod import RUN_ENV, this_pod
from defectline.components.common.reporting.step_record import Memory, StepRecord, write_step
from defectline.components.common.storage import open_storage


class Recorder:
    """Writes the record in a thread of its own, for the store may be away."""

    END_S = 10.0
    """So long the end of a step waits for its record to be written."""
    STOP_S = 5.0
    """The same where the process was told to end."""
    EVERY_S = 1.0
    """Between two looks at the memory in use."""

    def __init__(self, store: str, run: str, record: StepRecord):
        self.store, self.run, self.record = store, run, record
        self._memory: Memory | None = None
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._changed.set()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="step-record", daemon=True)

    @classmethod
    def start(
        cls, store: str, step: str, shard: int = 0, shards: int = 1, part: str = "", copy_of: str = ""
    ) -> Self | None:
        """A recorder that works; None where the run is not known, as on a laptop."""
        run = os.environ.get(RUN_ENV, "")
        if not (run and store):
            return None
        pod = this_pod()
        record = StepRecord(
            step=step,
            shard=shard,
            shards=shards,
            part=part,
            copy_of=copy_of,
            state="running",
            pod=pod.name,
            namespace=pod.namespace,
            began=_now(),
        )
        recorder = cls(store, run, record)
        recorder._thread.start()
        return recorder

    def end(self, within_s: float = END_S, **changes: Any) -> None:
        """Write how the step ended, and wait for it, but not for long. Only the first call counts."""
        with self._lock:
            if self._over:
                return
            self._look()
            self.record = self.record.model_copy(update={"ended": _now(), "memory": self._near(), **changes})
            self._over = True
        self._changed.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            print(
                f"{self.record.title}: the store does not answer; it is not told how this ended", flush=True
            )

    def _work(self) -> None:
        try:
            storage = open_storage(self.store)
            while True:
                over = self._over
                self._changed.clear()
                write_step(storage, self.run, self.record)
                while not (over or self._changed.wait(self.EVERY_S) or self._rises()):
                    pass
                if over:
                    return
        except Exception as error:
            # The step meets the same store, and says what is wrong with it.
            print(f"{self.record.title}: cannot write into the store that it runs: {error}", flush=True)

    def _look(self) -> None:
        """See how much memory is in use, and keep the highest use so far."""
        now = read_memory()
        if now and self._memory:
            highest = max(now.highest_bytes, self._memory.highest_bytes)
            now = now.model_copy(update={"highest_bytes": highest})
        self._memory = now or self._memory

    def _near(self) -> Memory | None:
        """The highest use of memory, where it came near to the limit."""
        return self._memory if self._memory and self._memory.near else None

    def _rises(self) -> bool:
        """Whether the record has to tell more of the memory in use than it does; then it does."""
        with self._lock:
            self._look()
            found, told = self._near(), self.record.memory
            if self._over or found is None:
                return False
            if told and found.killed == told.killed:
                # Each time that half of what was left is gone, which is not often.
                left = told.limit_bytes - told.highest_bytes
                if found.limit_bytes - found.highest_bytes > left / 2:
                    return False
            self.record = self.record.model_copy(update={"memory": found})
            return True


@contextmanager
def on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGTERM calls `act` and ends the process, even while it computes outside of Python.

    Python's own handlers run in the main thread, and only between two steps of the interpreter; of a step
    on a cluster there is 0.4 s left by then. Here the signal wakes a thread through a socket.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    with wakes, woken:
        former = signal.signal(signal.SIGTERM, lambda *_: None)
        other = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        watch = threading.Thread(target=_watch, args=(wakes, act), name="sigterm", daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(other)
            signal.signal(signal.SIGTERM, former)
            woken.shutdown(socket.SHUT_WR)
            watch.join()


def _watch(wakes: socket.socket, act: Callable[[], None]) -> None:
    while signals := wakes.recv(64):
        if signal.SIGTERM in signals:
            try:
                act()
            finally:
                os._exit(128 + signal.SIGTERM)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
