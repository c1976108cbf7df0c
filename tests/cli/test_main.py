"""`python -m defectline.cli` is the command."""

import subprocess
import sys


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "defectline.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "python"
    assert "defectline" in done.stdout
