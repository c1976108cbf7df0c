"""Who is served now, who waits, and who is told at once that it makes no sense to wait."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from defectline.components.serve.errors import Refusal

T = TypeVar("T")

STUCK_S = 300.0
"""No picture takes so long: who still works on one then hangs."""


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


class Admission:
    """Runs work in threads, `workers` at once; at most `queue` requests wait, each at most `deadline_s`.

    Work once begun is always finished and answered. For one event loop.
    """

    def __init__(self, workers: int, queue: int, deadline_s: float):
        self.workers, self.queue, self.deadline_s = workers, queue, deadline_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inspect")
        self._free = workers
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun: dict[asyncio.Future, float] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self.workers - self._free

    @property
    def full(self) -> bool:
        return not self._free and len(self._waiting) >= self.queue

    @property
    def stuck(self) -> bool:
        """Whether some work does not end."""
        return any(time.monotonic() - begun > STUCK_S for begun in self._begun.values())

    def check(self) -> None:
        """Raise Refusal where there is no room."""
        if self.full:
            raise Refusal("overloaded", f"{self.queue} requests wait already. Ask again later, or elsewhere.")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Refusal where its turn does not come in time."""
        await self._turn()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        self._begun[future] = time.monotonic()
        future.add_done_callback(self._ended)
        # A caller that goes away must not free a thread that is still at work.
        return await asyncio.shield(future)

    async def _turn(self) -> None:
        if self._free:
            self._free -= 1
            return
        self.check()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self.deadline_s)
        except BaseException as error:
            if turn.done():
                if isinstance(error, TimeoutError):
                    return  # It came at the last moment.
                self._release()
            else:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Refusal(
                    "overloaded", f"No turn came within {self.deadline_s:g} s. Ask again later, or elsewhere."
                ) from None
            raise

    def _ended(self, future: asyncio.Future) -> None:
        del self._begun[future]
        if not future.cancelled():
            future.exception()  # Seen, even where nobody waits for it any more.
        self._release()

    def _release(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
