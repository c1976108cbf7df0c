"""Jobs that run at the same time, in processes that end with them."""

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from defectline.components.common.errors import SettingsError
from defectline.pipeline import workers
from defectline.pipeline.local import run_subprocess
from defectline.pipeline.workers import Stopped, Worker, run_all, share_processors

SLEEPS = "import sys, time; print('▸ begun', flush=True); time.sleep(600)"


def call(worker: Worker, folder: Path, program: str, said=lambda line: None) -> int:
    """The exit status of a program of the worker's."""
    folder.mkdir()
    command = [sys.executable, "-c", program]
    try:
        return run_subprocess(command, "", folder, folder / "log", said, worker.env, worker.started)
    finally:
        worker.ended()


def test_what_jobs_return_is_in_their_order_and_so_many_run_at_once():
    both = threading.Barrier(2)

    def job(number: int):
        # Neither ends before the other one has begun.
        return lambda worker: (number, both.wait(timeout=30) >= 0)

    assert run_all([job(n) for n in range(4)], workers=2) == [(n, True) for n in range(4)]
    assert run_all([], workers=2) == []


@pytest.mark.parametrize(
    ("there", "number", "shares"),
    [
        (4, 1, [[]]),
        (4, 2, [[0, 1], [2, 3]]),
        (5, 2, [[0, 1], [2, 3, 4]]),
        (2, 3, [[0], [1], [0]]),
        (3, 3, [[0], [1], [2]]),
    ],
)
def test_processors_are_shared(there: int, number: int, shares: list[list[int]], monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(there)), raising=False)
    assert share_processors(number) == shares


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors are bound on Linux alone")
def test_the_processes_of_a_worker_are_bound_to_its_share(tmp_path: Path):
    there = os.sched_getaffinity(0)
    first = min(there)
    worker = Worker([first], threading.Event())
    said: list[str] = []
    program = (
        "import os, threading, time; time.sleep(0.2); found = []\n"
        "thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0))); thread.start()\n"
        "thread.join(); print('▸', found, os.environ['TF_NUM_INTRAOP_THREADS'])"
    )
    assert call(worker, tmp_path / "a", program, said.append) == 0
    # As many threads as without a share: their number decides how sums are rounded.
    assert said == [f"[{{{first}}}] {len(there)}"]


def test_where_one_fails_the_others_are_ended_and_its_reason_is_told(tmp_path: Path):
    begun, seen = threading.Event(), []

    def waits(worker: Worker) -> None:
        status = call(worker, tmp_path / "waits", SLEEPS, lambda line: begun.set())
        seen.append(status)
        worker.check()

    def fails(worker: Worker) -> None:
        assert begun.wait(timeout=30)
        raise SettingsError("This one.", got="a", expected="b", fix="c")

    with pytest.raises(SettingsError, match="This one"):
        run_all([waits, fails, lambda worker: seen.append("begun too late")], workers=2)
    assert seen == [-signal.SIGKILL]


def test_ctrl_c_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun = threading.Event()
    seen = []

    def waits(worker: Worker) -> None:
        seen.append(call(worker, tmp_path / "waits", SLEEPS, lambda line: begun.set()))

    def interrupted(*_: object, **__: object) -> None:
        assert begun.wait(timeout=30)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "wait", interrupted)
    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        run_all([waits], workers=1)
    assert seen == [-signal.SIGKILL]
    assert set(psutil.Process().children()) <= before


def test_a_worker_that_was_told_to_end_starts_nothing_more():
    stop = threading.Event()
    worker = Worker([], stop)
    worker.check()
    stop.set()
    with pytest.raises(Stopped):
        worker.check()
