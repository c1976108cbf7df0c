"""Processes on this machine that train together with JAX, one thread each."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from paths import ROOT
from servers import free_port

from defectline.components.train.backend.environment import ADDRESS, PROCESS, PROCESSES

ENV = {"KERAS_BACKEND": "jax", "NPROC": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def start(number: int, arguments: Sequence[str | Path], logs: Path, **env: str) -> list[subprocess.Popen]:
    """So many processes of Python with these arguments; what each says is in `logs`/PROCESS.log."""
    logs.mkdir(parents=True, exist_ok=True)
    meeting = {ADDRESS: f"127.0.0.1:{free_port()}", PROCESSES: str(number)}
    return [
        one(arguments, logs / f"{process}.log", {**meeting, PROCESS: str(process), **env})
        for process in range(number)
    ]


def one(arguments: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> subprocess.Popen:
    path = os.pathsep.join([str(ROOT / "tests/support"), env.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        env=os.environ | ENV | env | {"PYTHONPATH": path},
    )


def finish(processes: Sequence[subprocess.Popen], logs: Path) -> list[str]:
    """Wait for the good end of all; returns what each said."""
    status = [process.wait(timeout=600) for process in processes]
    said = [(logs / f"{process}.log").read_text() for process in range(len(processes))]
    assert not any(status), (status, *(text[-3000:] for text in said))
    return said
