"""Time and memory of one step, taken from outside."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

# The step alone is timed, without the interpreter's start and the imports, as `step` does.
INGEST = """
import sys, time
from defectline.components.ingest.step import ingest
start, processor = time.perf_counter(), time.process_time()
ingest(sys.argv[1], sys.argv[2])
print(time.process_time() - processor, time.perf_counter() - start)
"""


class Measured(NamedTuple):
    seconds: float
    peak_mb: float
    """RssAnon: what the process and its workers hold, without mapped files and shared libraries."""
    processor_s: float
    """Time of all processors."""


def measure(code: str, *arguments: object) -> Measured:
    """Run a step in a process of its own; it prints last its processor time and its time, in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, anonymous_mb(process.pid))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(f"a step failed:\n{output}")
    *_, processor, elapsed = output.split()
    return Measured(float(elapsed), peak, float(processor))


def anonymous_mb(pid: int) -> float:
    """RssAnon of a process and all its descendants in MB, 0 once it has ended."""
    try:
        root = psutil.Process(pid)
        return sum(map(_own_mb, [root, *root.children(recursive=True)]))
    except psutil.NoSuchProcess:
        return 0.0


def _own_mb(process: psutil.Process) -> float:
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it ended between the listing and the look
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon")), 0.0)
