"""YOLO with outlines."""

from pathlib import Path

import numpy as np
import pytest
from labelled import listing, marked, same, truth, unpack, write_files
from parts import PARTS
from pictures import QUARANTINE, CountingFolder, take

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import yolo
from defectline.components.ingest.readers.base import Record, Sidecar
from defectline.components.ingest.snapshotter import take_snapshot

SQUARE = "0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"
NAMES = "names: [scratch, dent]\n"
DATA = {"data.yaml": NAMES, "images/a.jpg": b"", "labels/a.txt": f"1 {SQUARE}\n"}


def splits(root: Path) -> dict[str, str]:
    found = listing(root)
    assert yolo.fits(found)
    return {one.stem: one.split for one in yolo.read(found).records}


def test_an_export_of_supervision(tmp_path: Path):
    found = listing(unpack("yolo", tmp_path))
    assert yolo.fits(found) == "data.yaml and its labels are YOLO"
    layout = yolo.read(found)
    assert len(layout.records) == len(PARTS)
    for record in layout.records:
        part = PARTS[record.stem.rpartition("/")[2]]
        assert same(truth(record, found), part.truth)
        assert record.split == {"val": "validation"}.get(part.split, part.split)
        assert marked(record, found).label == ("" if part.boxes else "OK")
    assert (layout.rejected, layout.ignored) == ([], {})


@pytest.mark.parametrize(
    ("yaml", "more"),
    [
        # Ultralytics.
        (
            "path: ../plates\ntrain: images/train\nval: images/val\ntest: images/test\nnames: {0: x}\n",
            {},
        ),
        # CVAT.
        (
            "train: train.txt\nval: val.txt\ntest: test.txt\npath: .\nnames:\n  0: x\n",
            {
                f"{part}.txt": f"data/images/{part}/1.jpg\n./images/{part}/2.jpg\n"
                for part in ("train", "val", "test")
            },
        ),
        ("train: [/data/plates/images/train]\nnames: [x]\n", {}),
        ("nc: 1\nnames: ['x']\n", {}),
    ],
)
def test_splits_of_folders_and_lists(tmp_path: Path, yaml: str, more: dict[str, str]):
    parts = ("train", "val", "test")
    files = {f"images/{part}/{number}.jpg": b"" for part in parts for number in (1, 2)}
    files |= {f"labels/{part}/1.txt": f"0 {SQUARE}".encode() for part in parts}
    write_files(tmp_path, {**files, **more, "dataset.yaml": yaml})
    assert splits(tmp_path) == {
        f"{part}/{number}": {"val": "validation"}.get(part, part) for part in parts for number in (1, 2)
    }


def test_splits_that_the_file_names_in_other_folders(tmp_path: Path):
    files = {f"{part}/images/1.jpg": b"" for part in ("first", "second")}
    files |= {f"{part}/labels/1.txt": f"0 {SQUARE}".encode() for part in ("first", "second")}
    write_files(
        tmp_path, {**files, "data.yaml": "train: ../first/images\nval: ../second/images\nnames: [x]\n"}
    )
    assert splits(tmp_path) == {"first/1": "train", "second/1": "validation"}


def test_names_without_yaml(tmp_path: Path):
    files = {"classes.txt": "scratch\ndent\n", "images/a.jpg": b"", "labels/a.txt": f"1 {SQUARE}\n"}
    found = listing(write_files(tmp_path, files))
    assert yolo.fits(found)
    (record,) = yolo.read(found).records
    assert truth(record, found, (8, 8)).keys() == {"dent"}


def test_labels_may_lie_beside_the_pictures(tmp_path: Path):
    files = {
        "set/data.yaml": NAMES,
        "set/train/a.jpg": b"",
        "set/train/a.txt": f"0 {SQUARE}",
        "set/b.png": b"",
    }
    layout = yolo.read(listing(write_files(tmp_path, files)))
    assert [(one.stem, one.split) for one in layout.records] == [("train/a", "train")]
    assert layout.ignored == {"other files": 1}


def test_an_empty_file_and_a_missing_one_are_good(tmp_path: Path):
    files = {**DATA, "images/empty.jpg": b"", "labels/empty.txt": "\n", "images/missing.jpg": b""}
    found = listing(write_files(tmp_path, files))
    layout = yolo.read(found)
    assert {one.stem: marked(one, found).label for one in layout.records} == {
        "a": "",
        "empty": "OK",
        "missing": "OK",
    }
    assert layout.notes == ["1 pictures have no label file, which means good in this format"]


def test_endings_may_be_in_capitals(tmp_path: Path):
    files = {**DATA, "images/B.JPG": b"", "labels/B.TXT": f"0 {SQUARE}"}
    found = listing(write_files(tmp_path, files))
    layout = yolo.read(found)
    assert [marked(one, found).label for one in layout.records] == ["", ""]
    assert layout.notes == []


@pytest.mark.parametrize(
    "left",
    ["labels/P.txt", "labels/p_.txt", "labels/p.jpg.txt", "labels/valid/p.txt"],
)
def test_labels_of_no_image_stop_where_images_have_none(tmp_path: Path, left: str):
    files = {**DATA, "images/p.jpg": b"", left: f"0 {SQUARE}"}
    with pytest.raises(SourceError, match="would count as good") as caught:
        yolo.read(listing(write_files(tmp_path / "left", files)))
    assert left in caught.value.got
    # Without such an image nothing is taken for another than it is.
    del files["images/p.jpg"]
    assert len(yolo.read(listing(write_files(tmp_path / "alone", files))).records) == 1


def record(root: Path, labels: str, names: str = NAMES) -> tuple[Record, dict[str, np.ndarray]]:
    found = listing(write_files(root, {**DATA, "labels/a.txt": labels, "data.yaml": names}))
    (one,) = yolo.read(found).records
    return one, truth(one, found, (9, 17))


def test_outlines_as_pixels(tmp_path: Path):
    _, classes = record(tmp_path, f"1 {SQUARE}\n0 1.0 1.0 1.005 0.9 0.99 1\n")
    expected = np.zeros((9, 17), bool)
    # 2.25 and 4.5 rows down, 4.25 and 8.5 columns right.
    expected[2:5, 4:9] = True
    assert (classes["dent"] == expected).all()
    # However small, a defect keeps a pixel, and none leaves the picture.
    assert np.argwhere(classes["scratch"]).tolist() == [[8, 16]]


def test_of_outlines_that_overlap_the_later_counts(tmp_path: Path):
    _, classes = record(tmp_path, f"0 0 0 1 0 1 1 0 1\n1 {SQUARE}\n")
    assert classes["dent"].sum() == 15
    assert classes["scratch"].sum() == 9 * 17 - 15


def test_a_class_that_does_not_count(tmp_path: Path):
    assert record(tmp_path, f"1 {SQUARE}\n", "names: {0: scratch, 1: ignore}\n")[1].keys() == {"ignore"}


def test_other_names_are_another_version(tmp_path: Path):
    versions = set()
    for names in (NAMES, "names: [scratch, dust]\n"):
        mask = record(tmp_path, f"1 {SQUARE}\n", names)[0].mask
        assert isinstance(mask, Sidecar)
        versions.add(mask.version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ("0 0.5 0.5 0.2 0.2\n", "are boxes"),
        ("0 0.5 0.5 0.2 0.2 0.97\n", "are boxes"),
        (f"0 {SQUARE}\n0 0.5 0.5 0.2 0.2\n", "are boxes"),
        (f"0 {SQUARE} 0.9\n", "line 1 is not a class and pairs"),
        ("0 0.1 0.1 0.2\n", "line 1 is not a class and pairs"),
        (f"\n2 {SQUARE}\n", "line 2 has a class that has no name, 2"),
        ("0.5 0.1 0.1 0.2 0.1 0.2 0.2\n", "no name, 0.5"),
        ("0 10 10 20 10 20 20\n", "outside of the picture"),
        ("0 nan 0.1 0.2 0.1 0.2 0.2\n", "outside of the picture"),
        ("scratch 0.1 0.1 0.2 0.1 0.2 0.2\n", "not a list of numbers"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, labels: str, what: str):
    with pytest.raises(SourceError, match=what):
        record(tmp_path, labels)


def test_boxes_are_refused_before_pictures_are_read(tmp_path: Path):
    found = listing(write_files(tmp_path, {**DATA, "labels/a.txt": "0 0.5 0.5 0.2 0.2\n"}))
    with pytest.raises(SourceError, match="are boxes") as caught:
        yolo.read(found)
    assert caught.value.got == "labels/a.txt: 0 0.5 0.5 0.2 0.2"
    assert "outline" in caught.value.fix


@pytest.mark.parametrize("text", ["names: 3\n", "names: {a: b}\n", "names:\n  - [\n"])
def test_a_file_of_names_that_cannot_be_used(tmp_path: Path, text: str):
    with pytest.raises(SourceError, match=r"data.yaml cannot be read"):
        yolo.read(listing(write_files(tmp_path, {**DATA, "data.yaml": text})))


@pytest.mark.parametrize(
    "files",
    [
        {"data.yaml": NAMES, "images/a.jpg": b""},
        {"images/a.jpg": b"", "labels/a.txt": f"0 {SQUARE}"},
        {"config.yaml": "lr: 0.1\n", "images/a.jpg": b"", "labels/a.txt": f"0 {SQUARE}"},
    ],
)
def test_other_sources_do_not_fit(tmp_path: Path, files: dict[str, str | bytes]):
    found = listing(write_files(tmp_path, files))
    assert not yolo.fits(found)
    with pytest.raises(SourceError, match=r"No picture has a label file|no names of classes"):
        yolo.read(found)


def test_a_changed_label_is_a_changed_pair(tmp_path: Path, store: FolderStorage):
    source = unpack("yolo", tmp_path / "source")
    first = take(source, store)
    before = {pair.id: pair for pair in read_pairs(store, first.id)}
    label = source / "train/labels/part_6.txt"
    label.write_text(f"1 {SQUARE}\n")
    counting = CountingFolder(source)
    second = take_snapshot(counting, store, QUARANTINE).snapshot
    pictures = [key for key in counting.keys_read if key.endswith((".jpg", ".png"))]
    assert pictures == ["train/images/part_6.jpg"]
    after = {pair.id: pair for pair in read_pairs(store, second.id)}
    assert {id for id in after if after[id] != before[id]} == {"NG/train/part_6"}
    assert after["NG/train/part_6"].split == before["NG/train/part_6"].split
