"""Processes that share the work: decoding holds Python's lock, so threads would gain little."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Self, TypeVar

import cv2

MOST = 8
"""A pod sees all processors of its node."""
MEMORY_PX = 100_000_000
"""Pixels at work at once: each takes about ten bytes, and the step has 2 GiB."""
SMALL_PX = 30_000_000
"""Pixels in all that are worked on before processes have started and imported what they need."""

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool for pictures of `all_px` pixels together, `largest_px` the largest; a context manager."""

    def __init__(self, largest_px: int, all_px: int):
        # One picture a worker: OpenCV's own threads would only fight over the same cores.
        cv2.setNumThreads(1)
        self.count = max(1, min(MOST, os.cpu_count() or 1, MEMORY_PX // max(1, largest_px)))
        self._pool: Executor
        if self.count == 1 or all_px < SMALL_PX:
            self._pool = ThreadPoolExecutor(self.count)
        else:
            # Not forked: threads of this process may hold locks.
            self._pool = ProcessPoolExecutor(self.count, get_context("spawn"), _begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # After an error what has not begun is not waited for.
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Each item with `function(item)`, in order; few items are taken before they are needed."""
        pending: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            pending.append((item, self._pool.submit(function, item)))
            if len(pending) == 2 * self.count:
                done, result = pending.popleft()
                yield done, result.result()
        while pending:
            done, result = pending.popleft()
            yield done, result.result()


def _begin() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    # After `kill -9` of the parent nothing would ever end this process.
    os._exit(1)
