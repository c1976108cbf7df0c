"""The `defectline` command as a process, as a user has it."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import defectline.cli as cli
from defectline.cli import ui

SMALL_NETWORK = {"PYTHONPATH": str(Path(__file__).parent / "small_training")}
"""The environment of a process that trains a small network instead of the real one."""


def defectline(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 1200,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with a wide screen and without colours."""
    return subprocess.run(
        [Path(sys.executable).with_name("defectline"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
    )


class Called(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def call(*arguments: str | Path) -> Called:
    """The same in this process, for what needs no other: seconds sooner."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with (
        patch.object(sys, "argv", ["defectline", *map(str, arguments)]),
        patch.object(ui.console, "_width", 200),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
    return Called(status, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to compare what was there with what is."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
