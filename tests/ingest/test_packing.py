"""Packs and their journal: the same bytes for the same files, lost ones, and runs that were cut off."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from pictures import QUARANTINE, CountingFolder, Restless, stored, take

from defectline.components.common.errors import StoreError
from defectline.components.common.snapshot import read_files, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest import packing
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import TooManyRejected, take_snapshot


def test_the_same_files_make_the_same_packs_byte_for_byte(source: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    packs = []
    for place in (source, copy):
        store = FolderStorage(tmp_path / f"store of {place.name}")
        take(place, store)
        packs.append({found.key: store.read(found.key) for found in store.list("snapshots/packs/")})
    assert packs[0] == packs[1]
    assert len(packs[0]) == 1


def test_packs_are_of_limited_size(source: Path, store: FolderStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "PACK_BYTES", 2_000)
    rows = read_pairs(store, take(source, store).id)
    packs = {row.pack for row in rows}
    assert len(packs) > 2
    assert len(list(read_files(store, rows))) == 16
    for pack in packs:
        assert sum(row.image_bytes + row.mask_bytes for row in rows if row.pack == pack) <= 2_000


def test_packs_are_webdataset_shards(source: Path, store: FolderStorage):
    take(source, store)
    (pack,) = store.list("snapshots/packs/")
    with tarfile.open(fileobj=io.BytesIO(store.read(pack.key))) as tar:
        assert tar.getnames()[:2] == ["NG-00000_NG.image.png", "NG-00000_NG.mask.png"]
        assert {info.mtime for info in tar} == {0}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_lost_or_changed_pack_is_noticed(source: Path, store: FolderStorage, damage: str):
    snapshot = take(source, store)
    (pack,) = store.list("snapshots/packs/")
    if damage == "missing":
        store.delete(pack.key)
    else:
        data = store.read(pack.key)
        store.write(pack.key, data[:600] + bytes([data[600] ^ 1]) + data[601:])
    with pytest.raises(StoreError, match="lost pictures") as caught:
        list(read_files(store, read_pairs(store, snapshot.id)))
    assert pack.key in caught.value.got


def test_a_damaged_journal_only_costs_time(source: Path, store: FolderStorage, capfd: pytest.CaptureFixture):
    spoil(source)
    with pytest.raises(TooManyRejected):
        take_snapshot(FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.0))
    (journal,) = store.list("snapshots/journal/")
    store.write(journal.key, b"")
    assert (
        take_snapshot(
            FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.5)
        ).snapshot.accepted
        == 15
    )
    assert f"{store.url(journal.key)} is damaged and ignored: 0 bytes" in capfd.readouterr().out
    assert not list(store.list("snapshots/journal/"))


def spoil(source: Path) -> None:
    (source / "OK/00000_OK_Image.png").write_bytes(b"no picture")


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_a_pack_that_is_lost_is_packed_again(
    source: Path, store: FolderStorage, published: bool, cut: bool, capfd: pytest.CaptureFixture
):
    spoil(source)
    if published:
        take_snapshot(FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.5))
    else:
        with pytest.raises(TooManyRejected):
            take_snapshot(FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.0))
    (pack,) = store.list("snapshots/packs/")
    store.delete(pack.key)
    if cut:
        store.write(pack.key, b"short")
    snapshot = take_snapshot(
        FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.5)
    ).snapshot
    assert "1 packs have left the store or were cut short" in capfd.readouterr().out
    rows = [p for p in read_pairs(store, snapshot.id) if p.accepted]
    assert len(list(read_files(store, rows))) == len(rows) == 15


def test_touched_and_moved_files_are_not_packed_again(source: Path, store: FolderStorage, tmp_path: Path):
    first = take(source, store)
    packs = set(store.list("snapshots/packs/"))
    for path in source.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert take(source, store).id == first.id
    source.rename(tmp_path / "moved")
    moved = take(tmp_path / "moved", store)
    assert (moved.id, moved.fingerprint) == (first.id, first.fingerprint)
    assert moved.source != first.source
    assert set(store.list("snapshots/packs/")) == packs


def test_a_run_that_was_cut_off_is_continued(
    source: Path, store: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "PACK_BYTES", 2_000)
    undisturbed = FolderStorage(tmp_path / "other")
    take(source, undisturbed)

    def cut_off(path: Path) -> None:
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        take_snapshot(Restless(source, "OK/00001_OK_Image.png", cut_off), store, QUARANTINE)
    packed = len(list(store.list("snapshots/packs/")))
    assert packed
    counting = CountingFolder(source)
    take_snapshot(counting, store, QUARANTINE)
    assert stored(store).keys() == stored(undisturbed).keys()
    assert 0 < len(counting.keys_read) < 32
    for key, data in stored(undisturbed).items():
        assert key.endswith("snapshot.json") or store.read(key) == data
