from pathlib import Path

import pytest
from pictures import take, write_source

from defectline.components.common.storage.folder import FolderStorage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(8))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def snapshot(source: Path, store: FolderStorage) -> str:
    return take(source, store).id
