"""Files that the user names."""

from pathlib import Path

from defectline.components.common.errors import SettingsError


def read_file(path: Path, expected: str) -> bytes:
    """The content of a file; `expected` says what it should be. Raises SettingsError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read.",
            got=error.strerror or str(error),
            expected=expected,
            fix="Check the path.",
        ) from error
