from pathlib import Path

import pytest
from pictures import write_source

from defectline.components.common.storage.folder import FolderStorage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(8))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder into which steps report."""
    folder = tmp_path / "reports"
    folder.mkdir()
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(folder))
    return folder
