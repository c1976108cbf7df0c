"""What to say where packages are missing. Imports the standard library alone."""

import importlib.util
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE = (Path(__file__).parents[2] / "Makefile").is_file()
"""Whether this is installed from a clone, where make installs."""


def how_to_install(extra: str) -> str:
    """A sentence: how this Python, which need not be the one that `pip` belongs to, gets the packages."""
    if CLONE:
        return "Run `make setup`."
    return f'Run `{shlex.quote(sys.executable)} -m pip install "defectline[{extra}]"`.'


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@contextmanager
def explained(program: str, extra: str) -> Iterator[None]:
    """End the process with status 2 and what to install where the block lacks a package."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] == "defectline":
            raise
        what = f"{program} needs packages that are not installed: no module {error.name}."
        print(what, how_to_install(extra), file=sys.stderr)
        raise SystemExit(2) from None
