"""Which requests run now, which wait, and which are refused at once because the queue is full."""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from defectline.components.serve.protocol.errors import ApiError

T = TypeVar("T")

STUCK_S = 300.0
"""No picture takes so long: a thread that still works on one hangs."""
SMALL_PX = 1_000_000
"""Pictures up to here never wait for memory: they need little of it, compared with the network."""


def processors(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processors this process may use: its affinity, and the container's CPU limit (cgroup v2),
    rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        limit = -(-int(quota) // int(period))
    except (OSError, ValueError):
        # No cgroup v2, or "max": no limit.
        return count
    return max(1, min(count, limit))


def workers_for(threads: int) -> int:
    """How many pictures to judge at once on so many threads: while some are in the network, as many others
    are decoded before it and answered after it."""
    return 2 * threads


class _Waiter(NamedTuple):
    turn: asyncio.Future[None]
    pixels: int
    model: str


class Admission:
    """Runs work in threads, `workers` at once; at most `queue` requests of a model wait, each at most
    `deadline_s`. The next is the first of the model that has fewest at work, so none holds the others up.

    Large pictures are judged at once only as far as they have `room` pixels together, which bounds memory;
    those that wait for room are passed by small ones alone. Work once begun is always finished and answered.
    For one event loop.
    """

    def __init__(self, workers: int, queue: int, deadline_s: float, room: int = 50_000_000):
        self.workers, self.queue, self.deadline_s = workers, queue, deadline_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inspect")
        self._free, self._room = workers, room
        self._waiting: deque[_Waiter] = deque()
        self._begun: dict[asyncio.Future, float] = {}
        self._at_work: Counter[str] = Counter()

    def waiting(self, model: str = "") -> int:
        """How many requests of a model wait."""
        return sum(waiter.model == model for waiter in self._waiting)

    def running(self, model: str = "") -> int:
        """How many of its requests are at work."""
        return self._at_work[model]

    @property
    def stuck(self) -> bool:
        """Whether some work does not end."""
        return any(time.monotonic() - begun > STUCK_S for begun in self._begun.values())

    def check(self, model: str = "") -> None:
        """Raise ApiError where the model's queue is full."""
        if not self._free and self.waiting(model) >= self.queue:
            raise self._overloaded()

    def _overloaded(self) -> ApiError:
        return ApiError(
            "overloaded", f"{self.queue} requests wait already. Try again later, or at another replica."
        )

    async def run(self, work: Callable[[], T], pixels: int = 0, model: str = "") -> T:
        """What `work` of a model, on a picture of so many pixels, returns or raises. Raises ApiError where
        its turn does not come in time."""
        held = pixels if pixels > SMALL_PX else 0
        await self._turn(held, model)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        self._begun[future] = time.monotonic()
        future.add_done_callback(lambda ended: self._ended(ended, held, model))
        # A caller that goes away must not free a thread that is still at work.
        return await asyncio.shield(future)

    async def _turn(self, pixels: int, model: str) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), pixels, model)
        self._waiting.append(waiter)
        self._admit()
        if waiter.turn.done():
            return
        if self.waiting(model) > self.queue:
            self._waiting.remove(waiter)
            raise self._overloaded()
        try:
            await asyncio.wait_for(asyncio.shield(waiter.turn), self.deadline_s)
        except BaseException as error:
            if waiter.turn.done():
                if isinstance(error, TimeoutError):
                    return  # It came at the last moment.
                self._release(pixels, model)
            else:
                self._waiting.remove(waiter)
                self._admit()
            if isinstance(error, TimeoutError):
                raise ApiError(
                    "overloaded",
                    f"No thread was free within {self.deadline_s:g} s. Try again later, or elsewhere.",
                ) from None
            raise

    def _admit(self) -> None:
        """Start waiting requests as far as there are threads and room."""
        while self._free and (waiter := self._next()):
            self._waiting.remove(waiter)
            self._free -= 1
            self._room -= waiter.pixels
            self._at_work[waiter.model] += 1
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        room = self._room
        # Sorting keeps the order of those of one model.
        for waiter in sorted(self._waiting, key=lambda one: self._at_work[one.model]):
            if waiter.pixels <= room:
                return waiter
            room = 0  # No large one may overtake it.
        return None

    def _ended(self, future: asyncio.Future, pixels: int, model: str) -> None:
        del self._begun[future]
        if not future.cancelled():
            future.exception()  # Retrieved, or asyncio would log it where the caller has gone.
        self._release(pixels, model)

    def _release(self, pixels: int, model: str) -> None:
        self._free += 1
        self._room += pixels
        self._at_work[model] -= 1
        self._admit()
