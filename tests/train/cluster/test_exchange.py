"""What goes through the store between the step and the pods that train."""

import json
from pathlib import Path

import pytest

from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.train.cluster.exchange import Exchange


@pytest.fixture
def exchange(store: FolderStorage) -> Exchange:
    return Exchange(store, "defectline-1")


def shards(folder: Path) -> list[Path]:
    found = [folder / "shards" / name for name in ("a", "b")]
    for shard in found:
        shard.mkdir(parents=True)
        (shard / "images.npy").write_bytes(shard.name.encode())
    return found


def test_the_pods_get_what_the_step_has(exchange, tmp_path):
    given = shards(tmp_path)
    exchange.put_order(given, {"epochs": 2})
    # What comes in is never changed.
    assert [path.name for path in given[0].iterdir()] == ["images.npy"]
    found, settings = exchange.get_order(tmp_path / "pod")
    assert settings == {"epochs": 2}
    assert [(shard / "images.npy").read_text() for shard in found] == ["a", "b"]


def test_a_shard_that_is_damaged_on_its_way_is_not_learned_from(exchange, tmp_path):
    exchange.put_order(shards(tmp_path), {})
    exchange.store.write(f"{exchange.prefix}data/1/images.npy", b"x")
    with pytest.raises(StoreError, match=r"1/images.npy is not what was sealed"):
        exchange.get_order(tmp_path / "pod")


def test_the_step_gets_what_the_first_pod_has(exchange, tmp_path):
    model, page = tmp_path / "model", tmp_path / "page.html"
    model.mkdir()
    (model / "model.keras").write_text("weights")
    checksums.seal(model)
    page.write_text("curves")
    # Of an attempt that was lost.
    exchange.store.write(f"{exchange.prefix}model/other", b"left")
    exchange.put_model(model, page, {"epoch": 3})
    assert exchange.get_model(tmp_path / "here", tmp_path / "there/page.html") == {"epoch": 3}
    assert (tmp_path / "here/model.keras").read_text() == "weights"
    assert (tmp_path / "there/page.html").read_text() == "curves"
    exchange.forget()
    assert not [*exchange.store.list()]


def test_what_is_wrong_is_told_in_the_same_words(exchange):
    assert exchange.error() is None
    given = SettingsError("A.", got="b", expected="c", fix="D.")
    exchange.put_error(given.to_json())
    assert json.loads(exchange.error().to_json()) == json.loads(given.to_json())
