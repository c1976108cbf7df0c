"""Ingest: names, checks, duplicates, snapshots, and the step itself on folders."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import HTML
from pictures import (
    CountingFolder,
    accepted,
    encode,
    mask,
    noise,
    objects,
    remove_pair,
    turned,
    write_pair,
    write_source,
)
from PIL import Image

from defectline.components.common.errors import Conflict, SourceError, StoreError
from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord, GateRecord, read_outcome, write_gate
from defectline.components.common.snapshot import (
    Pair,
    Snapshot,
    fingerprint,
    read_files,
    read_head,
    read_pairs,
    read_snapshot,
    snapshot_id,
)
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest import packing
from defectline.components.ingest import snapshotter as taking
from defectline.components.ingest.checks import check_pair, reject_duplicates
from defectline.components.ingest.component import ingest as ingest_component
from defectline.components.ingest.pairing import pair_objects, stem
from defectline.components.ingest.snapshotter import TooManyRejected, take_snapshot
from defectline.components.ingest.step import ingest

LAYOUT = ("OK/1.png", "OK_MSK/1.png", "NG/1.png", "NG_MSK/1.png")
QUARANTINE = "runs/r/quarantine.csv"


# Names


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("00007_NG_Image.bmp", "00007_NG"),
        ("00007_NG_Mask.png", "00007_NG"),
        ("part-msk.png", "part"),
        ("part img.jpeg", "part"),
        ("part.7.png", "part.7"),
        ("part.7.mask.png", "part.7"),
        ("image.png", "image"),
        ("part 7/Image.png", "part 7"),
        ("00007Mask.png", "00007"),
        ("damask.png", "damask"),
        ("h_noimg.png", "h_noimg"),
        ("line 2/a_IMAGE.PNG", "line 2/a"),
        ("no suffix", "no suffix"),
        ("Pru\u0308fling.png", "Pr\u00fcfling"),
    ],
)
def test_stem(name: str, common: str):
    assert stem(name) == common


def ids(rows: list[Pair]) -> list[str]:
    return [row.id for row in rows]


def test_pairs_are_made_by_name_in_any_folder_below():
    found = pair_objects(
        objects(
            "OK/b/1_Image.bmp",
            "OK_MSK/b/1_Mask.png",
            "OK/a.jpg",
            "OK_MSK/a.PNG",
            "NG/1.png",
            "NG_MSK/1_mask.png",
        )
    )
    assert [(image.key, mask.key, pair.id) for image, mask, pair in found.pairs] == [
        ("NG/1.png", "NG_MSK/1_mask.png", "NG/1"),
        ("OK/a.jpg", "OK_MSK/a.PNG", "OK/a"),
        ("OK/b/1_Image.bmp", "OK_MSK/b/1_Mask.png", "OK/b/1"),
    ]
    assert not found.rejected


def test_the_same_name_in_both_classes_is_two_pairs():
    assert ids([pair for *_, pair in pair_objects(objects(*LAYOUT)).pairs]) == ["NG/1", "OK/1"]


@pytest.mark.parametrize(
    ("more", "id", "reason"),
    [
        (["OK/2.png"], "OK/2", "No mask"),
        (["NG_MSK/2.png"], "NG/2", "No image"),
        (["OK/a/2.png", "OK_MSK/b/2.png"], "OK/a/2", "No mask"),
        (["OK/2.png", "OK/2.bmp", "OK_MSK/2.png"], "OK/2", "OK/2.bmp, OK/2.png, OK_MSK/2.png"),
        (["OK/2.png", "OK_MSK/2_mask.png", "OK_MSK/2_msk.png"], "OK/2", "More than one"),
        (["OK/2\n.png", "OK_MSK/2\n.png"], "OK/2\n.png", "control character"),
        (["OK/\udcff.png"], "OK/\\udcff.png", "not UTF-8"),
        (["OK/../2.png"], "OK/../2.png", ".."),
    ],
)
def test_what_has_no_partner_or_several_is_rejected(more: list[str], id: str, reason: str):
    found = pair_objects(objects(*LAYOUT, *more))
    assert len(found.pairs) == 2
    assert found.rejected[0].id == id
    assert reason in found.rejected[0].reason
    assert all(row.fix and row.status == "rejected" for row in found.rejected)
    listed = {key for row in found.rejected for key in (row.image_key, row.mask_key) if key}
    mentioned = " ".join(row.reason for row in found.rejected)
    # Every file is named: none leaves silently.
    for key in more:
        name = key.encode(errors="backslashreplace").decode()
        assert name in listed or name in mentioned


def test_files_elsewhere_are_counted_only():
    found = pair_objects(objects(*LAYOUT, "README.md", "OKAY/1.png", "ok/1.png", "sub/OK/1.png"))
    assert (found.elsewhere, len(found.pairs), found.rejected) == (4, 2, [])


@settings(deadline=None)
@given(st.permutations([*LAYOUT, "OK/2.png", "OK/3.png", "OK/3.bmp", "OK_MSK/3.png", "NG_MSK/9.png"]))
def test_the_order_of_a_listing_does_not_matter(keys: list[str]):
    assert pair_objects(objects(*keys)) == pair_objects(objects(*sorted(keys)))


@pytest.mark.parametrize(
    ("keys", "what", "got"),
    [
        ([], "empty", "no file"),
        (["a.png", "train/OK/a.png"], "another layout", "2 files"),
        (["OK/1.png", "OK_MSK/1.png"], "NG has no images", "NG/"),
        (["NG/1.png", "NG_MSK/1.png", "OK_MSK/1.png"], "OK has no images", "OK/"),
    ],
)
def test_another_layout_is_explained(keys: list[str], what: str, got: str):
    with pytest.raises(SourceError, match=what) as caught:
        pair_objects(objects(*keys))
    assert got in caught.value.got
    assert "OK_MSK/" in caught.value.expected


# Checks


def check(label: str, image: bytes, truth: bytes) -> Pair:
    return check_pair(Pair(f"{label}/1", label, "accepted", "i.png", "m.png"), image, truth)


def test_a_sound_pair_is_accepted_with_what_is_known_of_it():
    image, truth = encode(noise(0)), encode(mask(True))
    row = check("NG", image, truth)
    assert (row.status, row.reason, row.fix) == ("accepted", "", "")
    assert (row.width, row.height, row.defect_px) == (16, 16, 9)
    assert (row.image_bytes, row.mask_bytes) == (len(image), len(truth))
    assert row.image_sha256 == hashlib.sha256(image).hexdigest()
    assert row.mask_sha256 == hashlib.sha256(truth).hexdigest()
    assert check("OK", image, encode(mask(False))).status == "accepted"


GOOD, EMPTY, DEFECT = encode(noise(0)), encode(mask(False)), encode(mask(True))


@pytest.mark.parametrize(
    ("label", "image", "truth", "reason"),
    [
        pytest.param("OK", b"text", EMPTY, "Image: The file is no picture", id="not-an-image"),
        pytest.param("OK", GOOD, b"text", "Mask: The file is no picture", id="not-a-mask"),
        pytest.param("OK", GOOD[:-50], EMPTY, "Image: The picture is damaged. Got", id="truncated"),
        pytest.param("OK", GOOD, encode(mask(False, 17)), "mask 17×17, image 16×16", id="sizes"),
        pytest.param("NG", GOOD, encode(noise(3)), "Mask: The mask holds other values", id="not-two-valued"),
        pytest.param("NG", GOOD, EMPTY, "its mask is empty", id="ng-empty"),
        pytest.param("NG", GOOD, encode(255 - mask(True)), "marks 96% of the picture", id="inverted"),
        pytest.param("OK", GOOD, DEFECT, "its mask marks 9 px", id="ok-with-defect"),
        pytest.param(
            "OK",
            encode(noise(1), save_all=True, append_images=[Image.fromarray(noise(2))]),
            EMPTY,
            "more than one picture",
            id="animated",
        ),
        pytest.param("OK", encode(Image.new("1", (10_000, 5_001))), EMPTY, "too large", id="too-many-pixels"),
    ],
)
def test_a_bad_pair_is_rejected_with_reason_and_fix(label: str, image: bytes, truth: bytes, reason: str):
    row = check(label, image, truth)
    assert row.status == "rejected"
    assert reason in row.reason
    assert row.fix
    # A table's cell: one line, no address in memory, which would differ from run to run.
    assert "\n" not in row.reason
    assert " at 0x" not in row.reason


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(encode((noise(0).astype(np.uint16) << 8) + 7), id="sixteen-bit"),
        pytest.param(encode(noise(0), "BMP"), id="bmp"),
        pytest.param(encode(np.repeat(noise(0)[..., None], 3, axis=2), "TIFF"), id="rgb-tiff"),
        pytest.param(encode(Image.fromarray(noise(0)).convert("RGBA")), id="alpha"),
        pytest.param(encode(Image.fromarray(noise(0)).convert("P")), id="palette"),
        pytest.param(encode(noise(0)[::-1, ::-1], exif=turned(3)), id="exif"),
    ],
)
def test_copies_in_other_formats_have_the_same_pixel_hash(image: bytes):
    row = check("OK", image, EMPTY)
    assert row.accepted
    assert row.pixel_sha256 == check("OK", GOOD, EMPTY).pixel_sha256
    assert row.image_sha256 != hashlib.sha256(GOOD).hexdigest()


def test_the_shape_is_part_of_the_pixel_hash():
    flat = encode(noise(0).reshape(8, 32))
    row = check("OK", flat, encode(np.zeros((8, 32), np.uint8)))
    assert row.pixel_sha256 != check("OK", GOOD, EMPTY).pixel_sha256


# Duplicates


def same(id: str, pixels: str = "p", status: str = "accepted") -> Pair:
    return Pair(id, id[:2], status, pixel_sha256=pixels)


def kept(rows: list[Pair], earlier: dict[str, str]) -> list[str]:
    return [row.id for row in reject_duplicates(rows, earlier) if row.accepted]


def test_of_pictures_with_the_same_label_one_stays():
    rows = [same("OK/b"), same("OK/a"), same("OK/c"), same("OK/d", "other")]
    assert kept(rows, {}) == ["OK/a", "OK/d"]
    out = reject_duplicates(rows, {})
    assert out[0].reason == "The same picture as OK/a."
    assert out[0].fix


def test_the_one_that_was_accepted_before_stays():
    rows = [same("OK/a"), same("OK/b")]
    assert kept(rows, {"p": "OK/b"}) == ["OK/b"]
    assert kept(rows, {"p": "OK/gone"}) == ["OK/a"]


def test_with_different_labels_none_stays():
    rows = [same("OK/a"), same("NG/b"), same("NG/c"), same("NG/d", "other")]
    assert kept(rows, {"p": "OK/a"}) == ["NG/d"]
    reasons = {row.reason for row in reject_duplicates(rows, {}) if row.status == "rejected"}
    assert reasons == {"The same picture is both OK and NG: NG/b, NG/c, OK/a."}


def test_rejected_pairs_are_nobodys_duplicate():
    rows = [same("OK/a"), same("NG/b", status="rejected"), same("OK/c", "", "rejected")]
    assert reject_duplicates(rows, {}) == rows


# Identity


def test_the_fingerprint_is_as_defined():
    rows = [accepted(2, "OK"), accepted(1, "NG"), accepted(3, "OK")._replace(status="rejected")]
    lines = [f"{r.label}\t{r.id}\t{r.image_sha256}\t{r.mask_sha256}" for r in rows[:2]]
    assert fingerprint(rows) == hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert fingerprint(reversed(rows)) == fingerprint(rows)
    elsewhere = [row._replace(image_version="x", split="test", pack="y", width=9) for row in rows]
    assert fingerprint(elsewhere) == fingerprint(rows)


@pytest.mark.parametrize("field", ["id", "label", "image_sha256", "mask_sha256"])
def test_every_part_of_the_fingerprint_counts(field: str):
    rows = [accepted(1, "OK"), accepted(2, "OK")]
    assert fingerprint([rows[0]._replace(**{field: "x"}), rows[1]]) != fingerprint(rows)


def test_a_snapshots_id_covers_what_its_reader_sees():
    row = accepted(1, "OK", "train")
    base = snapshot_id([row])
    for change in ({"split": "test"}, {"status": "rejected"}, {"reason": "x"}, {"mask_sha256": "0"}):
        assert snapshot_id([row._replace(**change)]) != base
    for change in ({"image_version": "x"}, {"pack": "x"}):
        assert snapshot_id([row._replace(**change)]) == base


@pytest.mark.parametrize("ids", [("OK/a.b", "OK/a%2Eb"), ("OK/a/b", "OK/a%2Fb"), ("OK/a", "OK/a.image")])
def test_members_of_a_pack_have_different_names(ids: tuple[str, str]):
    names = {accepted(1, "OK")._replace(id=id).member(kind) for id in ids for kind in ("image", "mask")}
    assert len(names) == 4
    # WebDataset takes what stands before the first dot as the sample's name.
    assert len({name.split(".")[0] for name in names}) == 2


# The snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(8))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "store")


def take(source: Path, store: FolderStorage, max_rejected: float = 0.1) -> Snapshot:
    return take_snapshot(FolderStorage(source), store, max_rejected, QUARANTINE)


def stored(store: FolderStorage) -> dict[str, bytes]:
    return {found.key: store.read(found.key) for found in store.list()}


def split_of(store: FolderStorage, snapshot: Snapshot) -> dict[str, str]:
    return {row.pixel_sha256: row.split for row in read_pairs(store, snapshot.id) if row.split}


def rejected(store: FolderStorage, snapshot: Snapshot) -> dict[str, str]:
    return {row.id: row.reason for row in read_pairs(store, snapshot.id) if row.status == "rejected"}


def test_a_snapshot_gives_back_every_file(source: Path, store: FolderStorage):
    snapshot = take(source, store)
    assert (snapshot.accepted, snapshot.rejected) == (16, 0)
    assert read_head(store) == snapshot.id
    assert read_snapshot(store, snapshot.id) == snapshot
    files = list(read_files(store, read_pairs(store, snapshot.id)))
    assert len(files) == 16
    for row, image, truth in files:
        assert image == (source / row.image_key).read_bytes()
        assert truth == (source / row.mask_key).read_bytes()


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


def test_a_snapshot_that_is_not_there_is_named(store: FolderStorage):
    store.write("other", b"")
    with pytest.raises(StoreError, match="holds no snapshot 0123"):
        read_pairs(store, "0123")


def test_unchanged_files_are_not_read_again(source: Path, store: FolderStorage):
    first = take(source, store)
    write_pair(source, "NG", 50)
    counting = CountingFolder(source)
    second = take_snapshot(counting, store, 0.1, QUARANTINE)
    assert sorted(counting.keys_read) == ["NG/00050_NG_Image.png", "NG_MSK/00050_NG_Mask.png"]
    assert second.accepted == first.accepted + 1


def test_files_of_one_size_and_time_that_change_places_are_noticed(source: Path, store: FolderStorage):
    one, two = source / "NG/00001_NG_Image.png", source / "NG/00002_NG_Image.png"
    length = max(path.stat().st_size for path in (one, two))
    for path in (one, two):
        # Readers of PNG stop at its end.
        path.write_bytes(path.read_bytes().ljust(length, b"\0"))
        os.utime(path, ns=(1, 1))
    first = take(source, store)
    aside = one.rename(source / "aside")
    two.rename(one)
    aside.rename(two)
    second = take(source, store)
    before, after = ({p.id: p.image_sha256 for p in read_pairs(store, s.id)} for s in (first, second))
    assert after["NG/00001_NG"] == before["NG/00002_NG"] != before["NG/00001_NG"]
    assert after["NG/00002_NG"] == before["NG/00001_NG"]


def test_a_damaged_journal_only_costs_time(source: Path, store: FolderStorage, capfd: pytest.CaptureFixture):
    spoil(source)
    with pytest.raises(TooManyRejected):
        take_snapshot(FolderStorage(source), store, 0.0, QUARANTINE)
    (journal,) = store.list("snapshots/journal/")
    store.write(journal.key, b"")
    assert take_snapshot(FolderStorage(source), store, 0.5, QUARANTINE).accepted == 15
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
        take_snapshot(FolderStorage(source), store, 0.5, QUARANTINE)
    else:
        with pytest.raises(TooManyRejected):
            take_snapshot(FolderStorage(source), store, 0.0, QUARANTINE)
    (pack,) = store.list("snapshots/packs/")
    store.delete(pack.key)
    if cut:
        store.write(pack.key, b"short")
    snapshot = take_snapshot(FolderStorage(source), store, 0.5, QUARANTINE)
    assert "1 packs have left the store or were cut short" in capfd.readouterr().out
    rows = [p for p in read_pairs(store, snapshot.id) if p.accepted]
    assert len(list(read_files(store, rows))) == len(rows) == 15


@pytest.mark.parametrize("name", ["index.parquet", "snapshot.json"])
def test_a_damaged_snapshot_is_named(source: Path, store: FolderStorage, name: str):
    key = f"snapshots/{take(source, store).id}/{name}"
    store.write(key, store.read(key)[:20])
    with pytest.raises(StoreError, match="is damaged") as caught:
        take(source, store)
    assert store.url(key) in caught.value.got
    store.delete("snapshots/head.json")
    assert take(source, store).accepted == 16


@pytest.mark.parametrize("place", ["OK/store", "NG_MSK/a/b"])
def test_a_store_among_the_pictures_is_refused(source: Path, place: str, capfd: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        ingest(str(source), str(source / place))
    assert caught.value.code == 2
    assert "The store lies among the source's pictures." in capfd.readouterr().out
    assert not (source / place).exists()


@pytest.mark.parametrize(
    "numbers", [{"max_rejected": -1.0}, {"max_rejected": float("nan")}, {"min_new_images": 0}]
)
def test_numbers_that_make_no_sense_are_refused(
    source: Path, store: FolderStorage, numbers: dict[str, float], capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as caught:
        ingest(str(source), str(store.root), **numbers)
    assert caught.value.code == 2
    assert f"The setting {next(iter(numbers))} is wrong." in capfd.readouterr().out


def test_twelve_bits_in_sixteen_are_refused(source: Path, store: FolderStorage):
    rng = np.random.default_rng(0)
    for number, highest in (100, 4096), (101, 65536):
        write_pair(source, "OK", number)
        narrow = rng.integers(0, highest, (64, 64), np.uint16)
        Image.fromarray(narrow).save(source / f"OK/{number:05}_OK_Image.png")
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(source / f"OK_MSK/{number:05}_OK_Mask.png")
    rows = {p.id: p for p in read_pairs(store, take(source, store).id)}
    assert rows["OK/00100_OK"].reason == (
        "Image: The picture is black: of 16 bits a channel it uses the lowest 12 at most. "
        "Got no value above 4094."
    )
    assert rows["OK/00101_OK"].accepted


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


def test_the_same_state_keeps_its_date(source: Path, store: FolderStorage):
    first = take(source, store)
    dated = first.model_copy(update={"created": "2026-01-02T03:04:05+00:00"})
    store.write(f"snapshots/{first.id}/snapshot.json", dated.model_dump_json().encode())
    assert take(source, store) == dated
    assert read_snapshot(store, first.id) == dated


def test_a_changed_mask_is_read_and_keeps_its_split(source: Path, store: FolderStorage):
    first = take(source, store)
    truth = mask(True)
    truth[10, 10] = 255
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(truth))
    second = take(source, store)
    assert second.fingerprint != first.fingerprint
    assert split_of(store, second) == split_of(store, first)
    changed = next(row for row in read_pairs(store, second.id) if row.id == "NG/00003_NG")
    assert changed.defect_px == 10
    # The older snapshot still has the old mask.
    old = next(row for row in read_pairs(store, first.id) if row.id == "NG/00003_NG")
    ((_, _, data),) = read_files(store, [old])
    assert data == encode(mask(True))


def test_a_picture_that_leaves_and_returns_keeps_its_split(source: Path, store: FolderStorage):
    first = take(source, store)
    before = split_of(store, first)
    for label in ("OK", "NG"):
        for number in (0, 1):
            remove_pair(source, label, number)
    write_source(source, range(20, 24))
    without = take(source, store)
    absent = [row for row in read_pairs(store, without.id) if row.status == "absent"]
    assert sorted(ids(absent)) == ["NG/00000_NG", "NG/00001_NG", "OK/00000_OK", "OK/00001_OK"]
    assert without.accepted == 20
    write_pair(source, "OK", 90)
    take(source, store)  # one more without them
    write_source(source, range(2))
    back = take(source, store)
    assert before.items() <= split_of(store, back).items()
    assert back.accepted == 25
    assert not [row for row in read_pairs(store, back.id) if row.status == "absent"]


def test_a_picture_renamed_or_relabelled_keeps_its_split(source: Path, store: FolderStorage):
    first = take(source, store)
    before = split_of(store, first)
    remove_pair(source, "OK", 3)
    write_pair(source, "NG", 77, picture=3)
    second = take(source, store)
    rows = {row.id: row for row in read_pairs(store, second.id)}
    moved = rows["NG/00077_NG"]
    assert moved.split == before[moved.pixel_sha256]
    assert "OK/00003_OK" not in rows


def test_a_duplicate_takes_over_when_the_first_one_leaves(source: Path, store: FolderStorage):
    write_pair(source, "OK", 99, picture=0)
    write_source(source, range(10, 14))
    first = take(source, store)
    assert rejected(store, first) == {"OK/00099_OK": "The same picture as OK/00000_OK."}
    remove_pair(source, "OK", 0)
    second = take(source, store)
    assert rejected(store, second) == {}
    rows = {row.id: row for row in read_pairs(store, second.id)}
    assert rows["OK/00099_OK"].split == split_of(store, first)[rows["OK/00099_OK"].pixel_sha256]


def test_a_later_duplicate_with_a_smaller_name_does_not_win(source: Path, store: FolderStorage):
    take(source, store)
    write_pair(source, "OK", 5000, picture=3).rename(source / "OK/000_Image.png")
    (source / "OK_MSK/05000_OK_Mask.png").rename(source / "OK_MSK/000_Mask.png")
    assert rejected(store, take(source, store)) == {"OK/000": "The same picture as OK/00003_OK."}


def test_a_picture_under_both_labels_is_out_until_one_is_removed(source: Path, store: FolderStorage):
    write_source(source, range(10, 20))
    first = take(source, store)
    write_pair(source, "NG", 60, picture=2)
    second = take(source, store, max_rejected=0.2)
    assert set(rejected(store, second)) == {"OK/00002_OK", "NG/00060_NG"}
    remove_pair(source, "NG", 60)
    third = take(source, store)
    assert (third.id, third.accepted) == (first.id, 36)


def test_long_and_odd_names(source: Path, store: FolderStorage):
    odd = ["x" * 240, "a.b.c", "ü 划痕", "a%2Eb", "tail.", "deep/" * 40 + "er"]
    for number, name in enumerate(odd):
        for folder, pixels in (("OK", noise(500 + number)), ("OK_MSK", mask(False))):
            path = source / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels))
    snapshot = take(source, store)
    assert (snapshot.accepted, snapshot.rejected) == (16 + len(odd), 0)
    for row, image, _ in read_files(store, read_pairs(store, snapshot.id)):
        assert image == (source / row.image_key).read_bytes()


def test_names_that_differ_in_case_only(source: Path, store: FolderStorage):
    for name, number in (("part", 500), ("PART", 501)):
        (source / f"OK/{name}.png").write_bytes(encode(noise(number)))
        (source / f"OK_MSK/{name}.png").write_bytes(encode(mask(False)))
    assert take(source, store).accepted == 18


def test_a_pipe_is_no_file(source: Path, store: FolderStorage):
    os.mkfifo(source / "NG/pipe_NG_Image.png")
    (source / "NG_MSK/pipe_NG_Mask.png").write_bytes(DEFECT)
    assert rejected(store, take(source, store)) == {"NG/pipe_NG": "No image of that name."}


def test_a_name_that_is_not_utf_8_is_rejected(source: Path, store: FolderStorage):
    Path(os.fsdecode(os.fsencode(source / "OK") + b"/\xff.png")).write_bytes(GOOD)
    assert list(rejected(store, take(source, store))) == ["OK/\\udcff.png"]


class Restless(FolderStorage):
    """A folder in which something happens before a key is read."""

    def __init__(self, root: Path, key: str, event: Callable[[Path], object], times: int = 1):
        super().__init__(root)
        self.key, self.event, self.times = key, event, times

    def read(self, key: str, version: str = "") -> bytes:
        if key == self.key and self.times:
            self.times -= 1
            self.event(self.root / key)
        return super().read(key, version)


def test_what_is_deleted_while_it_is_read_is_not_in_the_snapshot(source: Path, store: FolderStorage):
    restless = Restless(source, "OK_MSK/00003_OK_Mask.png", Path.unlink)
    snapshot = take_snapshot(restless, store, 0.1, QUARANTINE)
    assert rejected(store, snapshot) == {"OK/00003_OK": "No mask of that name."}


def test_what_is_replaced_while_it_is_read_is_read_again(source: Path, store: FolderStorage, tmp_path: Path):
    key = "NG/00003_NG_Image.png"
    restless = Restless(source, key, lambda path: path.write_bytes(encode(noise(777))))
    snapshot = take_snapshot(restless, store, 0.1, QUARANTINE)
    undisturbed = FolderStorage(tmp_path / "other")
    assert take(source, undisturbed).id == snapshot.id
    packs = [{f.key: s.read(f.key) for f in s.list("snapshots/packs/")} for s in (store, undisturbed)]
    assert packs[0] == packs[1]
    row = next(row for row in read_pairs(store, snapshot.id) if row.image_key == key)
    assert row.image_sha256 == hashlib.sha256(encode(noise(777))).hexdigest()


def test_of_two_ingests_at_once_one_wins(source: Path, store: FolderStorage):
    def another_run(path: Path) -> None:
        write_source(source, [70])
        take(source, store)

    with pytest.raises(Conflict):
        take_snapshot(Restless(source, "NG/00003_NG_Image.png", another_run), store, 0.1, QUARANTINE)
    head = read_head(store)
    assert head
    assert read_snapshot(store, head).accepted == 18
    assert take(source, store).id == head


def test_a_source_that_never_rests_is_given_up(source: Path, store: FolderStorage):
    restless = Restless(source, "NG/00003_NG_Image.png", lambda path: os.utime(path), times=99)
    with pytest.raises(SourceError, match="changes faster than it can be read"):
        take_snapshot(restless, store, 0.1, QUARANTINE)
    assert read_head(store) is None


def test_a_run_that_was_cut_off_is_continued(
    source: Path, store: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "PACK_BYTES", 2_000)
    undisturbed = FolderStorage(tmp_path / "other")
    take(source, undisturbed)

    def cut_off(path: Path) -> None:
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        take_snapshot(Restless(source, "OK/00001_OK_Image.png", cut_off), store, 0.1, QUARANTINE)
    packed = len(list(store.list("snapshots/packs/")))
    assert packed
    counting = CountingFolder(source)
    take_snapshot(counting, store, 0.1, QUARANTINE)
    assert stored(store).keys() == stored(undisturbed).keys()
    assert 0 < len(counting.keys_read) < 32
    for key, data in stored(undisturbed).items():
        assert key.endswith("snapshot.json") or store.read(key) == data


def test_rejected_files_are_not_read_again_by_the_same_software(
    source: Path, store: FolderStorage, monkeypatch: pytest.MonkeyPatch
):
    (source / "OK/00003_OK_Image.png").write_bytes(b"broken")
    first = take(source, store)
    counting = CountingFolder(source)
    assert take_snapshot(counting, store, 0.1, QUARANTINE).id == first.id
    assert counting.keys_read == []
    monkeypatch.setattr(taking, "software", lambda: "another")
    take_snapshot(counting, store, 0.1, QUARANTINE)
    assert len(counting.keys_read) == 2


def test_too_many_rejected_pairs_leave_the_table_and_the_old_head(source: Path, store: FolderStorage):
    first = take(source, store)
    before = stored(store)
    for number in range(2):
        (source / f"OK/{number:05d}_OK_Image.png").write_bytes(b'broken, = "it"')
    with pytest.raises(SourceError, match="2 of 16 pairs are unusable") as caught:
        take(source, store)
    assert "OK/00000_OK: Image: The file is no picture" in caught.value.got
    assert "10.0%" in caught.value.expected
    assert QUARANTINE in caught.value.fix
    table = list(csv.DictReader(io.StringIO(store.read(QUARANTINE).decode())))
    assert [row["id"] for row in table] == ["OK/00000_OK", "OK/00001_OK"]
    assert all(row["image"] and row["mask"] and row["reason"] and row["fix"] for row in table)
    assert stored(store).keys() == before.keys()
    assert {k: v for k, v in stored(store).items() if k != QUARANTINE} == {
        k: v for k, v in before.items() if k != QUARANTINE
    }
    assert take(source, store, max_rejected=0.125).rejected == 2
    assert read_head(store) != first.id


def test_a_store_that_cannot_be_written_shows_before_the_reading(source: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    counting = CountingFolder(source)
    with pytest.raises(StoreError):
        take_snapshot(counting, FolderStorage(tmp_path / "file/store"), 0.1, QUARANTINE)
    assert counting.keys_read == []


# Killed at any moment

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from defectline.components.common.imaging import decode_image
from defectline.components.common.snapshot import read_files, read_head, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest import snapshotter as taking

source, before, work = map(Path, sys.argv[1:])

def take(store):
    taking.take_snapshot(FolderStorage(source), FolderStorage(store), 0.1, "runs/r/quarantine.csv")

def fork(task):
    child = os.fork()
    if child == 0:
        task()
        os._exit(0)
    return os.waitpid(child, 0)[1]

def killed_at(store, moment):
    left = moment
    def hook(event, args):
        nonlocal left
        if event in ("open", "os.mkdir", "os.rename", "os.chmod") and str(store) in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    take(store)

def finish(store):
    folder = FolderStorage(store)
    head = read_head(folder)
    if head is not None:
        rows = [row for row in read_pairs(folder, head) if row.accepted]
        assert len(list(read_files(folder, rows))) == len(rows) > 0
    take(store)

# Once here, or each child would load Pillow's formats anew.
decode_image(next((source / "OK").iterdir()).read_bytes())
moment = 0
status = signal.SIGKILL
while status == signal.SIGKILL:
    moment += 1
    store = work / str(moment)
    if before.exists():
        shutil.copytree(before, store)
    status = fork(lambda: killed_at(store, moment))
    if status == signal.SIGKILL:
        assert fork(lambda: finish(store)) == 0, moment
assert status == 0, status
print(moment - 1)
"""


@pytest.mark.parametrize("again", [False, True])
def test_an_ingest_killed_at_any_moment_leaves_no_trace(source: Path, tmp_path: Path, again: bool):
    """kill -9 before each file that ingest opens, makes or renames in the store, then a normal run."""
    before, undisturbed = FolderStorage(tmp_path / "before"), FolderStorage(tmp_path / "undisturbed")
    if again:
        take(source, before)
        shutil.copytree(before.root, undisturbed.root)
        write_source(source, range(20, 25))
    expected = take(source, undisturbed)
    work = tmp_path / "work"
    command = [sys.executable, "-c", KILLED, source, before.root, work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout.split()[-1])
    assert kills >= 10
    assert len(list(work.iterdir())) == kills + 1
    for store in map(FolderStorage, work.iterdir()):
        assert read_head(store) == expected.id
        found = read_snapshot(store, expected.id)
        assert found.model_copy(update={"created": expected.created}) == expected
        assert read_pairs(store, expected.id) == read_pairs(undisturbed, expected.id)
        assert {o.key for o in store.list()} == {o.key for o in undisturbed.list()}
        for pack in undisturbed.list("snapshots/packs/"):
            assert store.read(pack.key) == undisturbed.read(pack.key)


# The step


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(folder))
    return folder


def gate(store: FolderStorage, snapshot: str, settings: str = "") -> None:
    """Say that a run with this snapshot reached its gate."""
    write_gate(store, "defects", GateRecord(run="earlier", snapshot=snapshot, settings_key=settings))


def step(source: Path, store: FolderStorage, **options: object) -> str:
    return ingest(str(source), str(store.root), **{"run": "now", **options})


def summary(reports: Path) -> str:
    return json.loads((reports / "ingest.json").read_text())["summary"]


def test_the_first_run_goes_on(source: Path, store: FolderStorage, reports: Path):
    snapshot = step(source, store)
    assert snapshot == read_head(store)
    assert summary(reports) == "16 pairs, 0 rejected, all of them new"
    assert store.read("runs/now/quarantine.csv") == b"id,image,mask,status,reason,fix\n"
    assert read_outcome(store, "now") is None


def test_the_component_hands_its_arguments_on(source: Path, store: FolderStorage):
    page = HTML(uri=str(store.root.parent / "kfp/pictures"))
    snapshot = ingest_component(
        str(source), str(store.root), "now", "defects", "", 1, 0.1, False, "all", page
    )
    assert snapshot == read_head(store)
    assert Path(page.path).read_bytes() == store.read("runs/now/pictures.html")


def test_nothing_new_ends_the_run(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store))
    store.write(
        champion_key("defects"), ChampionRecord(version="v1", run="earlier").model_dump_json().encode()
    )
    assert step(source, store) == ""
    outcome = read_outcome(store, "now")
    assert outcome is not None
    assert (outcome.state, outcome.version) == ("nothing_new", "v1")
    assert outcome.reason == "0 new since run earlier, 1 needed"


def test_five_new_pairs(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store))
    for number in range(30, 35):
        write_pair(source, "NG", number)
    assert step(source, store, min_new_images=6) == ""
    assert read_outcome(store, "now").reason == "5 new since run earlier, 6 needed"
    # Not counted from the last ingest but from the last gate.
    assert step(source, store, min_new_images=5) == read_head(store)
    assert summary(reports) == "21 pairs, 0 rejected, 5 new"


def test_a_new_mask_is_new_but_a_touched_or_lost_pair_is_not(source: Path, store: FolderStorage):
    write_source(source, range(10, 20))
    gate(store, step(source, store))
    os.utime(source / "OK/00000_OK_Image.png", ns=(1, 1))
    remove_pair(source, "OK", 7)
    (source / "OK_MSK/00006_OK_Mask.png").write_bytes(b"broken")
    assert step(source, store) == ""
    truth = mask(True)
    truth[0, 0] = 255
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(truth))
    assert step(source, store) != ""


def test_other_settings_and_force_count_as_new(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store), settings="epochs=1")
    assert step(source, store, settings_key="epochs=1") == ""
    assert step(source, store, settings_key="epochs=2") != ""
    assert summary(reports).endswith("0 new, and other settings")
    assert step(source, store, settings_key="epochs=1", force=True) != ""
    assert summary(reports).endswith("0 new, and --force")


def test_a_gate_whose_settings_have_their_old_name_is_read(source: Path, store: FolderStorage):
    old = {"run": "earlier", "snapshot": step(source, store), "settings": "epochs=1"}
    store.write("models/defects/gated.json", json.dumps(old).encode())
    assert step(source, store, settings_key="epochs=1") == ""
    assert step(source, store, settings_key="epochs=2") != ""


def test_another_models_gate_does_not_count(source: Path, store: FolderStorage):
    gate(store, step(source, store))
    assert step(source, store, model_name="other") != ""


def test_files_that_are_ignored_are_mentioned(
    source: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    (source / "notes.txt").write_text("")
    (source / ".DS_Store").write_text("")
    step(source, store)
    assert "ignored 1 files outside of OK/, OK_MSK/, NG/, NG_MSK/" in capsys.readouterr().out


def test_a_step_that_fails_writes_its_error(source: Path, store: FolderStorage, reports: Path):
    for number in range(3):
        (source / f"OK/{number:05d}_OK_Image.png").write_bytes(b"broken")
    with pytest.raises(SystemExit) as caught:
        step(source, store)
    assert caught.value.code == 2
    error = json.loads((reports / "error.json").read_text())
    assert error["what"] == "3 of 16 pairs are unusable."
    assert len(store.read("runs/now/quarantine.csv").splitlines()) == 4
    assert read_head(store) is None


def test_the_step_as_a_command(source: Path, tmp_path: Path):
    command = [sys.executable, "-m", "defectline.components.ingest"]
    done = subprocess.run([*command, source, tmp_path / "store"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ingest: 16 pairs, 0 rejected, all of them new" in done.stdout
    missing = tmp_path / "missing"
    done = subprocess.run([*command, missing, tmp_path / "store"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert str(missing) in done.stdout
    assert "Traceback" not in done.stdout
