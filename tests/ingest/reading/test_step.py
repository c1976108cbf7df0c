"""Reading in shards gives the snapshot of one reader, and a shard that dies is read again alone."""

from pathlib import Path

import pytest
from pictures import write_source

from defectline.components.common.layout import LISTING, SHARDS, journal_prefix, run_key
from defectline.components.common.snapshot import Pair, read_pairs, read_snapshot
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.reading import new, shards
from defectline.components.ingest.reading.step import plan, read_shard
from defectline.components.ingest.step import ingest

RUN = "r"
SETTINGS: dict[str, object] = {"max_rejected": 0.5}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LEAST", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """16 pairs of which one cannot be read, and one is there twice."""
    folder = write_source(tmp_path / "source", range(8))
    (folder / "NG/00007_NG_Image.png").write_bytes(b"broken")
    for kind, part in (("Image", "OK"), ("Mask", "OK_MSK")):
        data = (folder / f"{part}/00000_OK_{kind}.png").read_bytes()
        (folder / f"{part}/00009_OK_{kind}.png").write_bytes(data)
    return folder


def take(source: Path, store: Path, count: int) -> tuple[str, list[Pair]]:
    """Fingerprint and rows of a snapshot that so many shards read."""
    parts = plan(str(source), str(store), RUN, SETTINGS, count)
    assert parts == [f"{number}/{count}" for number in range(1, count + 1)]
    for part in reversed(parts):
        read_shard(str(source), str(store), RUN, SETTINGS, part)
    return publish(source, store)


def publish(source: Path, store: Path) -> tuple[str, list[Pair]]:
    snapshot = ingest(str(source), str(store), RUN, settings=SETTINGS)
    storage = FolderStorage(store)
    return read_snapshot(storage, snapshot).fingerprint, read_pairs(storage, snapshot)


def test_any_number_of_shards_gives_the_same_index(source: Path, tmp_path: Path):
    fingerprint, rows = publish(source, tmp_path / "whole")
    for count in (1, 2, 3):
        store = tmp_path / f"store-{count}"
        taken, found = take(source, store, count)
        assert taken == fingerprint
        # Where a shard ends, a pack does.
        assert [row._replace(pack="") for row in found] == [row._replace(pack="") for row in rows]
        assert len({row.pack for row in found if row.pack}) == count
        left = {one.key for one in FolderStorage(store).list("runs/")}
        assert not left & {run_key(RUN, LISTING), run_key(RUN, SHARDS)}
        assert not list(FolderStorage(store).list(journal_prefix(FolderStorage(source).uri)))


def test_what_shards_read_is_not_read_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = tmp_path / "store"
    for part in plan(str(source), str(store), RUN, SETTINGS, 2):
        read_shard(str(source), str(store), RUN, SETTINGS, part)
    monkeypatch.setattr(new, "read_pictures", killed)
    publish(source, store)


def test_a_shard_that_dies_is_read_again_alone(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = tmp_path / "store"
    first, second, third = plan(str(source), str(store), RUN, SETTINGS, 3)
    for part in (first, third):
        read_shard(str(source), str(store), RUN, SETTINGS, part)
    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "upload", killed)
        with pytest.raises(KeyboardInterrupt):
            read_shard(str(source), str(store), RUN, SETTINGS, second)
    with monkeypatch.context() as patch:
        keys = read_keys(patch)
        read_shard(str(source), str(store), RUN, SETTINGS, second)
        read = {key for key in keys if key.startswith(("OK", "NG"))}
    firsts = shards.read_cuts(FolderStorage(store), RUN)
    stems = {key.partition("/")[2].rpartition("_")[0] for key in read}
    ids = {f"{stem.rpartition('_')[2]}/{stem}" for stem in stems}
    assert ids
    assert {shards.shard_of(id, firsts) for id in ids} == {1}
    whole, _ = publish(source, tmp_path / "whole")
    assert publish(source, store)[0] == whole


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def read_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []
    plain = FolderStorage.read

    def read(self: FolderStorage, key: str, version: str = "") -> bytes:
        keys.append(key)
        return plain(self, key, version)

    monkeypatch.setattr(FolderStorage, "read", read)
    return keys


def test_little_that_is_new_is_one_part(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "LEAST", 50)
    assert plan(str(source), str(tmp_path / "store"), RUN, SETTINGS, 3) == ["1/1"]


def test_a_part_that_was_not_planned_is_refused(source: Path, tmp_path: Path):
    store = str(tmp_path / "store")
    plan(str(source), store, RUN, SETTINGS, 2)
    with pytest.raises(SystemExit):
        read_shard(str(source), store, RUN, SETTINGS, "1/3")
