"""Sources of several classes: what is accepted, how it is called, and what another class_map changes."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import SHARED
from pictures import QUARANTINE, CountingFolder, encode, mask, noise

from defectline.components.common.errors import SourceError
from defectline.components.common.legend import Names, counted
from defectline.components.common.snapshot import Pair, Snapshot, read_files, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot


def values(*present: int) -> NDArray[np.uint8]:
    """A mask with 4 pixels of each value."""
    pixels = np.zeros((16, 16), np.uint8)
    for row, value in enumerate(present):
        pixels[2 * row, :4] = value
    return pixels


def put(source: Path, key: str, pixels: NDArray[np.uint8]) -> None:
    path = source / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels))


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Ten pictures of each of three classes and six good ones in images/; masks/ hold the numbers."""
    source = tmp_path / "numbered"
    for number in range(36):
        put(source, f"images/{number:02}.png", noise(number))
        put(source, f"masks/{number:02}.png", values(number % 3 + 1) if number < 30 else values())
    return source


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Eight good pictures, eight of dust and eight of cracks, in folders of these names."""
    source = tmp_path / "folders"
    for number in range(24):
        name = ("good", "dust", "crack")[number % 3]
        put(source, f"{name}/{number:02}.png", noise(number))
        put(source, f"{name}/{number:02}_mask.png", mask(name != "good"))
    return source


def take(
    source: Path, store: FolderStorage, max_rejected: float = 0.5, **settings: object
) -> tuple[Snapshot, dict[str, Pair]]:
    chosen = IngestSettings.model_validate({"max_rejected": max_rejected, **settings})
    snapshot = take_snapshot(FolderStorage(source), store, QUARANTINE, chosen).snapshot
    return snapshot, {row.id: row for row in read_pairs(store, snapshot.id) if row.status != "absent"}


def truths(store: FolderStorage, snapshot: Snapshot) -> dict[str, set[int]]:
    """Id → the numbers in its mask, as training sees it."""
    rows = [row for row in read_pairs(store, snapshot.id) if row.accepted]
    names = Names(snapshot.classes, snapshot.class_map)
    return {
        row.id: set(np.unique(names.truth(data, (16, 16), row)).tolist())
        for row, _, data in read_files(store, rows)
    }


def test_numbers_are_classes_and_the_mask_is_the_label(numbered: Path, store: FolderStorage):
    snapshot, rows = take(numbered, store)
    assert (snapshot.classes, snapshot.accepted) == (("1", "2", "3"), 36)
    assert Counter(row.label for row in rows.values()) == {"NG": 30, "OK": 6}
    assert truths(store, snapshot)["NG/01"] == {0, 2}
    assert take(numbered, store)[0].id == snapshot.id


def test_a_file_names_the_numbers(numbered: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]):
    before, _ = take(numbered, store)
    (numbered / "classes.csv").write_text("value,name\n1,crack\n2,dust\n3,dent\n")
    counting = CountingFolder(numbered)
    capsys.readouterr()
    after = take_snapshot(counting, store, QUARANTINE).snapshot
    assert "ignored" not in capsys.readouterr().out
    # Only named otherwise: another snapshot of the same files, none of which is read again.
    assert counting.keys_read == ["classes.csv"]
    assert after.classes == ("crack", "dent", "dust")
    assert (after.fingerprint, after.id == before.id) == (before.fingerprint, False)


def test_black_and_white_among_numbers_is_rejected(numbered: Path, store: FolderStorage):
    put(numbered, "masks/02.png", values(255))
    _, rows = take(numbered, store)
    (row,) = (row for row in rows.values() if row.status == "rejected")
    assert row.image_key == "images/02.png"
    assert row.reason == "Its mask holds 0 and 255 alone, and others in the source hold numbers of classes."
    put(numbered, "masks/02.png", values(3, 255))
    snapshot, rows = take(numbered, store)
    assert rows["NG/02"].accepted
    assert truths(store, snapshot)["NG/02"] == {0, 3, 255}


def test_classes_that_are_ignored_leave_their_pictures_good_or_out(numbered: Path, store: FolderStorage):
    for number in range(30, 36):
        put(numbered, f"images/NG_{number}.png", noise(100 + number))
        put(numbered, f"masks/NG_{number}.png", values(1, 2))
    assert take(numbered, store)[0].classes == ("1", "2", "3")
    snapshot, rows = take(numbered, store, class_map="1=ignore")
    assert snapshot.classes == ("2", "3")
    assert Counter(row.label for row in rows.values()) == {"NG": 26, "OK": 16}
    assert truths(store, snapshot)["OK/00"] == {0, 255}
    assert truths(store, snapshot)["NG/NG_30"] == {0, 1, 255}
    again, rows = take(numbered, store)
    assert again.classes == ("2", "3", "1")
    assert Counter(row.label for row in rows.values()) == {"NG": 36, "OK": 6}


def test_a_folder_of_a_class_that_is_ignored_is_good(folders: Path, store: FolderStorage):
    put(folders, "dust/empty.png", noise(99))
    put(folders, "dust/empty_mask.png", mask(False))
    snapshot, rows = take(folders, store)
    assert snapshot.classes == ("crack", "dust")
    assert rows["NG/dust/empty"].reason == "NG, but its mask is empty."
    before = {row.pixel_sha256: row.split for row in rows.values() if row.split}
    snapshot, rows = take(folders, store, class_map="dust=ignore")
    assert snapshot.classes == ("crack",)
    assert Counter((row.label, row.status) for row in rows.values()) == {
        ("OK", "accepted"): 16,
        ("NG", "accepted"): 8,
        ("NG", "rejected"): 1,
    }
    assert truths(store, snapshot)["OK/dust/01"] == {0, 255}
    # Permanent, whatever the label.
    assert {row.pixel_sha256: row.split for row in rows.values() if row.split} == before
    snapshot, rows = take(folders, store, class_map="dust=crack")
    assert snapshot.classes == ("crack",)
    assert rows["NG/dust/01"].accepted


def test_bad_pictures_of_which_nothing_counts_are_rejected(tmp_path: Path, store: FolderStorage):
    source = tmp_path / "source"
    for number in range(20):
        label = "OK" if number % 2 else "NG"
        put(source, f"{label}/{number:02}.png", noise(number))
        put(source, f"{label}_MSK/{number:02}.png", values(*([] if number % 2 else [1 + number // 2 % 2])))
    (source / "classes.csv").write_text("value,name\n1,dust\n2,crack\n")
    for number in range(20, 24):
        put(source, f"NG/{number}.png", noise(number))
        put(source, f"NG_MSK/{number}.png", values(2))
    snapshot, rows = take(source, store, class_map="dust=ignore")
    gone = [row for row in rows.values() if row.status == "rejected"]
    assert {row.reason for row in gone} == {"NG, but nothing that its mask marks counts: dust."}
    assert (len(gone), snapshot.classes) == (5, ("crack",))
    assert take(source, store)[0].accepted == 24


def test_another_class_map_reads_only_what_changes_its_label(folders: Path, store: FolderStorage):
    take(folders, store)
    counting = CountingFolder(folders)
    renamed = IngestSettings(class_map="dust=dirt")
    assert take_snapshot(counting, store, QUARANTINE, renamed).snapshot.classes == ("crack", "dirt")
    assert counting.keys_read == []
    ignored = IngestSettings(class_map="dust=ignore")
    take_snapshot(counting, store, QUARANTINE, ignored)
    assert {key.partition("/")[0] for key in counting.keys_read} == {"dust"}


def test_a_rare_class_is_on_every_side(tmp_path: Path, store: FolderStorage):
    source = tmp_path / "source"
    for number in range(80):
        name = "good" if number < 20 else "rare" if number < 24 else "often"
        put(source, f"{name}/{number:02}.png", noise(number))
        put(source, f"{name}/{number:02}_mask.png", mask(name != "good"))
    _, rows = take(source, store)
    rare = Counter(row.split for row in rows.values() if "rare" in counted(row, {}))
    often = Counter(row.split for row in rows.values() if "often" in counted(row, {}))
    assert min(rare[split] for split in ("train", "validation", "test")) >= 1
    assert all(abs(often[split] - share * 56) <= 2 for split, share in (("train", 0.6), ("test", 0.2)))


def test_where_good_pictures_all_leave_the_run_stops(folders: Path, store: FolderStorage):
    take(folders, store)
    for path in (folders / "good").glob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(SourceError, match="No good picture of the source is left") as caught:
        take(folders, store)
    assert "has 8" in caught.value.got


@pytest.mark.parametrize("text", ["dust", "dust=", "=a", "a=b=c", "a=b,a=c", "a=b,,c=d"])
def test_a_class_map_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match="class_map"):
        IngestSettings(class_map=text)


@pytest.mark.skipif(not (SHARED / "data/neu_seg").is_dir(), reason="NEU-Seg is not here")
def test_neu_seg_as_it_is(store: FolderStorage):
    snapshot, rows = take(SHARED / "data/neu_seg", store, max_rejected=0.0)
    assert (snapshot.classes, snapshot.accepted) == (("1", "2", "3"), 726)
    assert {row.label for row in rows.values()} == {"NG"}


@pytest.mark.skipif(not (SHARED / "data/magnetic_tile").is_dir(), reason="Magnetic Tile is not here")
def test_magnetic_tile_as_it_is(store: FolderStorage):
    snapshot, rows = take(SHARED / "data/magnetic_tile", store)
    assert snapshot.classes == ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")
    assert snapshot.rejected <= 6
    labels = Counter(row.label for row in rows.values())
    assert labels["OK"] == 634
    assert labels["NG"] == 260
    # A tile under several exposures lies on one side, by the rule of the data's README.
    tile, last, sides = 0, ("", 0, 0), defaultdict[int, set[str]](set)
    for row in sorted(rows.values(), key=_frame):
        folder, frame, exposure = _frame(row)
        tile += folder != last[0] or exposure <= last[2] or frame - last[1] >= 600
        last = folder, frame, exposure
        if row.accepted:
            sides[tile].add(row.split)
    assert len(sides) > 220
    assert not [tile for tile, found in sides.items() if len(found) > 1]


def _frame(row: Pair) -> tuple[str, int, int]:
    folder, _, name = row.id.rpartition("/")
    exposure, _, frame = name.removeprefix("exp").partition("_num_")
    return folder, int(frame), int(exposure)
