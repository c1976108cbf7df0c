"""The `defectline` command as a process, as a user has it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def defectline(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 300,
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


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to compare what was there with what is."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
