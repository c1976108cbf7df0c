"""Processes that share the work, and end with the one that made them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from defectline.components.common.images.reading import UnreadableImage, decode_image
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.preprocess import workers
from defectline.components.preprocess.step import preprocess
from defectline.components.preprocess.workers import Workers

SMALL = {"image_size": 32}


def test_no_more_than_a_window_of_jobs_waits():
    taken = 0

    def items():
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    with Workers(largest_px=1, all_px=1) as workers:
        for done, (item, value) in enumerate(workers.map(str, items())):
            assert (item, value) == (done, str(done))
            assert taken <= done + 2 * workers.count
    assert taken == 50


def test_worker_processes_write_what_threads_write(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    preprocess(str(store.root), snapshot, tmp_path / "threads", SMALL)
    monkeypatch.setattr(workers, "SMALL_PX", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with Workers(1, 1) as pool:
        assert os.getpid() not in {pid for _, pid in pool.map(eval, ["__import__('os').getpid()"] * 4)}
    preprocess(str(store.root), snapshot, tmp_path / "processes", SMALL)
    for file in ("images.npy", "masks.npy", "statistics.json", "dataset.json"):
        assert (tmp_path / "threads" / file).read_bytes() == (tmp_path / "processes" / file).read_bytes()


def test_an_error_of_a_worker_process_comes_through_whole(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "SMALL_PX", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with Workers(1, 1) as pool, pytest.raises(UnreadableImage, match="not a picture") as caught:
        list(pool.map(decode_image, [b"text"]))
    assert caught.value.got == "4 bytes that start with b'text'"
    assert caught.value.fix == "Remove the file, or save it as PNG."


@pytest.mark.slow
def test_worker_processes_end_when_the_step_is_killed(tmp_path: Path):
    code = """
import time
from defectline.components.preprocess.workers import Workers
with Workers(1, 10**9) as workers:
    for _, pid in workers.map(process, range(2)):
        print(pid, flush=True)
    time.sleep(600)
"""
    program = tmp_path / "program.py"
    parts = "import os\n\ndef process(_):\n    return os.getpid()\n\nif __name__ == '__main__':\n"
    program.write_text(parts + textwrap.indent(code, "    "))
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        children = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
