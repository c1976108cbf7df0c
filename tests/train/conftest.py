import pytest
from small_network import build_small, make_splits

from defectline.components.common.dataset import Split
from defectline.components.common.storage.folder import FolderStorage


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    return make_splits()


@pytest.fixture
def small(monkeypatch) -> None:
    """Training builds the small network."""
    from defectline.components.train import loop

    monkeypatch.setattr(loop, "build_network", build_small)


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    (tmp_path / "store").mkdir()
    return FolderStorage(tmp_path / "store")
