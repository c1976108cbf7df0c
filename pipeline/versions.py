"""The versions that matter, read without importing anything heavy."""

import platform
from importlib import metadata

PACKAGES = ("defectline", "kfp", "tensorflow", "openvino", "kserve")
"""Whose versions matter."""


def versions() -> list[tuple[str, str]]:
    """Name and version of Python and PACKAGES; an empty version where it is not installed."""
    return [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
