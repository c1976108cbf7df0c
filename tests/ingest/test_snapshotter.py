"""Taking a snapshot: what is read, what keeps its split, and what happens while a source changes."""

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import (
    QUARANTINE,
    CountingFolder,
    Restless,
    encode,
    mask,
    noise,
    remove_pair,
    stored,
    take,
    write_pair,
    write_source,
)
from PIL import Image

from defectline.components.common.errors import Conflict, SourceError, StoreError
from defectline.components.common.snapshot import Snapshot, read_files, read_head, read_pairs, read_snapshot
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.reading import known
from defectline.components.ingest.snapshotter import take_snapshot


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


def test_unchanged_files_are_not_read_again(source: Path, store: FolderStorage):
    first = take(source, store)
    write_pair(source, "NG", 50)
    counting = CountingFolder(source)
    second = take_snapshot(counting, store, QUARANTINE).snapshot
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


@pytest.mark.parametrize("name", ["index.parquet", "snapshot.json"])
def test_a_damaged_snapshot_is_named(source: Path, store: FolderStorage, name: str):
    key = f"snapshots/{take(source, store).id}/{name}"
    store.write(key, store.read(key)[:20])
    with pytest.raises(StoreError, match="is damaged") as caught:
        take(source, store)
    assert store.url(key) in caught.value.got
    store.delete("snapshots/head.json")
    assert take(source, store).accepted == 16


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


def test_the_same_state_keeps_its_date(source: Path, store: FolderStorage):
    first = take(source, store)
    dated = first.model_copy(update={"created": "2026-01-02T03:04:05+00:00"})
    store.write(f"snapshots/{first.id}/snapshot.json", dated.model_dump_json().encode())
    assert take(source, store) == dated
    assert read_snapshot(store, first.id) == dated


def test_where_nothing_changed_the_snapshot_is_not_written_again(source: Path, store: FolderStorage):
    first = take(source, store)
    index = Path(store.root, "snapshots", first.id, "index.parquet")
    before = index.stat().st_mtime_ns
    assert take(source, store) == first
    assert index.stat().st_mtime_ns == before
    # Another file with the same picture: the row has another version.
    os.utime(source / "OK/00003_OK_Image.png", (1, 1))
    assert take(source, store) == first
    assert index.stat().st_mtime_ns != before


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
    assert sorted(row.id for row in absent) == ["NG/00000_NG", "NG/00001_NG", "OK/00000_OK", "OK/00001_OK"]
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
    (source / "NG_MSK/pipe_NG_Mask.png").write_bytes(encode(mask(True)))
    assert rejected(store, take(source, store)) == {"NG/pipe_NG": "No image of that name."}


def test_a_name_that_is_not_utf_8_is_rejected(source: Path, store: FolderStorage):
    Path(os.fsdecode(os.fsencode(source / "OK") + b"/\xff.png")).write_bytes(encode(noise(0)))
    assert list(rejected(store, take(source, store))) == ["OK/\\udcff.png"]


def test_what_is_deleted_while_it_is_read_is_not_in_the_snapshot(source: Path, store: FolderStorage):
    restless = Restless(source, "OK_MSK/00003_OK_Mask.png", Path.unlink)
    snapshot = take_snapshot(restless, store, QUARANTINE).snapshot
    assert rejected(store, snapshot) == {"OK/00003_OK": "No mask of that name."}


def test_what_is_replaced_while_it_is_read_is_read_again(source: Path, store: FolderStorage, tmp_path: Path):
    key = "NG/00003_NG_Image.png"
    restless = Restless(source, key, lambda path: path.write_bytes(encode(noise(777))))
    snapshot = take_snapshot(restless, store, QUARANTINE).snapshot
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
        take_snapshot(Restless(source, "NG/00003_NG_Image.png", another_run), store, QUARANTINE)
    head = read_head(store)
    assert head
    assert read_snapshot(store, head).accepted == 18
    assert take(source, store).id == head


def test_a_source_that_never_rests_is_given_up(source: Path, store: FolderStorage):
    restless = Restless(source, "NG/00003_NG_Image.png", lambda path: os.utime(path), times=99)
    with pytest.raises(SourceError, match="changes faster than it can be read"):
        take_snapshot(restless, store, QUARANTINE)
    assert read_head(store) is None


def test_rejected_files_are_not_read_again_by_the_same_software(
    source: Path, store: FolderStorage, monkeypatch: pytest.MonkeyPatch
):
    (source / "OK/00003_OK_Image.png").write_bytes(b"broken")
    first = take(source, store)
    counting = CountingFolder(source)
    assert take_snapshot(counting, store, QUARANTINE).snapshot.id == first.id
    assert counting.keys_read == []
    monkeypatch.setattr(known, "software", lambda: "another")
    take_snapshot(counting, store, QUARANTINE)
    assert len(counting.keys_read) == 2


def test_too_many_rejected_pairs_leave_the_table_and_the_old_head(source: Path, store: FolderStorage):
    first = take(source, store)
    before = stored(store)
    for number in range(2):
        (source / f"OK/{number:05d}_OK_Image.png").write_bytes(b'broken, = "it"')
    with pytest.raises(SourceError, match="2 of 16 pairs are unusable") as caught:
        take(source, store)
    assert "OK/00000_OK: Image: The file is not a picture" in caught.value.got
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
        take_snapshot(counting, FolderStorage(tmp_path / "file/store"), QUARANTINE)
    assert counting.keys_read == []


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from defectline.components.common.images.reading import decode_image
from defectline.components.common.snapshot import read_files, read_head, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest import snapshotter

source, before, work = map(Path, sys.argv[1:])

def take(store):
    snapshotter.take_snapshot(FolderStorage(source), FolderStorage(store), "runs/r/quarantine.csv")

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

# Once here, or each child would load Pillow's formats again.
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
