"""Jobs that run at the same time on this machine, each in processes of its own.

A worker is a thread that starts one process after the other and waits. It has a share of the processors,
which its processes are bound to, so that they do not fight over them. Where one fails, the others are ended.

TensorFlow adds up in an order that depends on the number of its threads, and trains to other weights with
another one. So it is the same for any number of workers: that of all the processors.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import pairwise
from queue import SimpleQueue
from typing import TypeVar

from defectline.pipeline.local import end_group

THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
"""Variables that say how many threads compute an operation."""

T = TypeVar("T")


class Stopped(Exception):
    """The worker was told to end, because of another one or of a person."""


class Worker:
    """What the processes of a job get of the machine: `processors`, or all where it is empty."""

    def __init__(self, processors: Sequence[int], stop: threading.Event):
        self.processors, self._stop = tuple(processors), stop
        self._lock = threading.Lock()
        self._running: subprocess.Popen | None = None

    @property
    def env(self) -> dict[str, str]:
        """Variables for the processes; somebody's own count."""
        number = str(len(_processors()))
        return {name: number for name in THREADS if name not in os.environ}

    def check(self) -> None:
        """Raise Stopped where the worker was told to end."""
        if self._stop.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Raises Stopped as soon as the worker is told to end."""
        self._stop.wait(seconds)
        self.check()

    def started(self, process: subprocess.Popen) -> None:
        """Bind the process, which leads a group of its own, to the processors; `stop` will end it.

        It is not Python yet, or has not begun to import: threads that it starts are bound as well.
        """
        if self.processors and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):
                os.sched_setaffinity(process.pid, self.processors)
        with self._lock:
            self._running = process
        if self._stop.is_set():
            self.end()

    def ended(self) -> None:
        """The process has ended by itself: its number may be another's by now."""
        with self._lock:
            self._running = None

    def end(self) -> None:
        with self._lock:
            if self._running is not None:
                end_group(self._running)


def run_all(jobs: Sequence[Callable[[Worker], T]], workers: int) -> list[T]:
    """What the jobs return, in their order, with so many at the same time.

    However this ends, no process of a job is left: where a job fails, the others are ended and its exception
    is raised; so it is with Ctrl-C.
    """
    stop = threading.Event()
    staff = [Worker(share, stop) for share in share_processors(min(workers, len(jobs)))]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in staff:
        idle.put(worker)

    def work(job: Callable[[Worker], T]) -> T:
        worker = idle.get()
        try:
            worker.check()
            return job(worker)
        except BaseException:
            # No other job is begun.
            stop.set()
            raise
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(max(1, len(staff)))
    try:
        futures = [pool.submit(work, job) for job in jobs]
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        for worker in staff:
            worker.end()
        pool.shutdown(cancel_futures=True)
    # Others may have noticed that they are to end before the one that failed had ended.
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error
    return [future.result() for future in futures]


def share_processors(workers: int) -> list[list[int]]:
    """The processors of each worker; one worker alone is not bound, so its list is empty.

    Where there are fewer processors than workers, some share one.
    """
    if workers < 2:
        return [[]] * workers
    there = sorted(_processors())
    if len(there) < workers:
        return [[there[number % len(there)]] for number in range(workers)]
    ends = [round(number * len(there) / workers) for number in range(workers + 1)]
    return [there[start:end] for start, end in pairwise(ends)]


def _processors() -> Collection[int]:
    """Those that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
