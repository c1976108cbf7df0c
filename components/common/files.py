"""Files on this machine, read and written whole."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defectline.components.common.errors import SettingsError

PARTIAL = re.compile(r"\..+\.[a-z0-9_]{8}")
"""What `replaced` calls a file while it is written."""


def read_file(path: Path, expected: str) -> bytes:
    """The content of a file that the user named; `expected` says what it should be. Raises SettingsError."""
    with explained(f"{path} cannot be read.", expected=expected, fix="Check the path."):
        return path.read_bytes()


@contextmanager
def explained(what: str, *, expected: str, fix: str) -> Iterator[None]:
    """Turn what the operating system says about a place that the user named into a SettingsError."""
    try:
        yield
    except OSError as error:
        raise SettingsError(what, got=error.strerror or str(error), expected=expected, fix=fix) from error


def make_room(path: Path, option: str) -> None:
    """Make the folder of a file that is written after long work, and try whether files can be made there.

    Raises SettingsError that names the option.
    """
    with explained(
        f"{path} cannot be written.",
        expected="a file's name in a folder that this user may write to",
        fix=f"Choose another {option}.",
    ):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """An empty file next to `path`, which takes its name by one rename when the block ends well.

    So `path` is there whole or as it was before. After an error nothing is left. Everybody may read the
    result. Raises OSError.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        # Renamed before its bytes are on the disk, a file could be empty after a power cut.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
