"""MVTec AD, MVTec LOCO, and VisA after its conversion."""

from pathlib import Path

import numpy as np
import pytest
from labelled import listing, truth, write_files
from pictures import QUARANTINE, encode, mask, noise

from defectline.components.common.errors import SourceError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import mvtec
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot

FILES = {
    "train/good/000.png": encode(noise(0)),
    "test/good/000.png": encode(noise(1)),
    "test/crack/000.png": encode(noise(2)),
    "ground_truth/crack/000_mask.png": encode(mask(True)),
    "license.txt": b"",
}


def test_the_folder_of_a_defect_names_its_class(tmp_path: Path):
    found = listing(write_files(tmp_path, FILES))
    assert "MVTec AD" in mvtec.fits(found)
    layout = mvtec.read(found)
    assert [(one.stem, one.label, one.legend, one.split) for one in layout.records] == [
        ("test/crack/000", "NG", '"crack"', ""),
        ("test/good/000", "OK", "", ""),
        ("train/good/000", "OK", "", ""),
    ]
    drawn = truth(layout.records[0], found)
    assert (drawn["crack"] == (mask(True) > 0)).all()
    assert (layout.rejected, layout.ignored) == ([], {"other files": 1})
    assert "split is by hash" in layout.notes[0]


LOCO = {
    "train/good/000.png": encode(noise(0)),
    "validation/good/000.png": encode(noise(1)),
    "test/good/000.png": encode(noise(2)),
    "test/logical_anomalies/000.png": encode(noise(3)),
    "ground_truth/logical_anomalies/000/000.png": encode(mask(True) // 255 * np.uint8(248)),
    "ground_truth/logical_anomalies/000/001.png": encode(np.roll(mask(True), 5, axis=1) // 255),
    "defects_config.json": b"[]",
}


def test_several_masks_of_a_picture_are_joined(tmp_path: Path):
    root = write_files(tmp_path, LOCO)
    found = listing(root)
    layout = mvtec.read(found)
    assert [one.stem for one in layout.records] == [
        "test/good/000",
        "test/logical_anomalies/000",
        "train/good/000",
        "validation/good/000",
    ]
    joined = truth(layout.records[1], found, (16, 16))
    both = (mask(True) > 0) | (np.roll(mask(True), 5, axis=1) > 0)
    assert joined.keys() == {"logical_anomalies"}
    assert np.array_equal(joined["logical_anomalies"], both)
    assert (layout.rejected, layout.ignored) == ([], {"other files": 1})
    # Another mask is another version of what is marked.
    before = layout.records[1].mask.version
    write_files(root, {"ground_truth/logical_anomalies/000/002.png": encode(mask(False))})
    assert mvtec.read(listing(root)).records[1].mask.version != before


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (encode(np.zeros((9, 7), np.uint8)), "Sizes differ: mask 7×9, image 16×16. Got ground_truth/"),
        (b"GIF89a", "is a GIF, which is not read. Got 6 bytes"),
    ],
)
def test_a_mask_among_several_that_cannot_be_used_is_named(
    tmp_path: Path, second: bytes, reason: str, capsys: pytest.CaptureFixture[str]
):
    key = "ground_truth/logical_anomalies/000/001.png"
    root = write_files(tmp_path / "source", LOCO | {key: second})
    store = FolderStorage(tmp_path / "store")
    with pytest.raises(SourceError):
        take_snapshot(FolderStorage(root), store, QUARANTINE, IngestSettings(max_rejected=1.0))
    row = next(line for line in store.read(QUARANTINE).decode().splitlines() if "logical" in line)
    assert reason in row
    assert key in row.replace("000/000.png", "")
    assert "no defective picture that can be used (1 rejected)" in capsys.readouterr().out


def test_masks_may_have_the_name_of_the_picture(tmp_path: Path):
    files = {
        "train/good/0.JPG": b"",
        "validation/good/1.JPG": b"",
        "test/bad/2.JPG": b"",
        "ground_truth/bad/2.png": b"",
    }
    layout = mvtec.read(listing(write_files(tmp_path, files)))
    assert [(one.stem, one.legend) for one in layout.records] == [
        ("test/bad/2", '"defect"'),
        ("train/good/0", ""),
        ("validation/good/1", ""),
    ]


def test_the_only_category_of_a_folder_is_taken(tmp_path: Path):
    layout = mvtec.read(
        listing(write_files(tmp_path, {f"bottle/{key}": data for key, data in FILES.items()}))
    )
    assert [one.stem for one in layout.records] == ["test/crack/000", "test/good/000", "train/good/000"]


def test_of_several_categories_one_is_asked_for(tmp_path: Path):
    files = {f"{category}/{key}": data for category in ("bottle", "cable") for key, data in FILES.items()}
    found = listing(write_files(tmp_path, files))
    assert mvtec.fits(found)
    with pytest.raises(SourceError, match="several categories") as caught:
        mvtec.read(found)
    assert caught.value.got == "bottle, cable"
    assert caught.value.fix.endswith("/bottle")


def test_what_is_alone_is_rejected(tmp_path: Path):
    more = {"test/crack/002.png": b"", "ground_truth/crack/2_mask.png": b""}
    layout = mvtec.read(listing(write_files(tmp_path, FILES | more)))
    assert [(row.id, row.reason) for row in layout.rejected] == [
        ("NG/test/crack/002", "No mask of that name."),
        ("NG/crack/2_mask", "No picture of that name."),
    ]
    assert layout.rejected[0].fix.startswith("ground_truth/crack/2_mask.png is almost of that name")


def test_a_defect_needs_no_mask(tmp_path: Path):
    layout = mvtec.read(listing(write_files(tmp_path, FILES | {"test/crack/001.png": b""})))
    assert [(one.label, one.legend) for one in layout.records if not one.mask and one.label == "NG"] == [
        ("NG", '"crack"')
    ]
    assert not layout.rejected


@pytest.mark.parametrize(
    "keys",
    [
        ["train/good/0.png", "test/good/0.png"],
        # Folders of classes, with defects to train on.
        ["train/good/0.png", "train/bad/0.png", "test/bad/0.png"],
        ["images/train/0.png", "ground_truth/crack/0.png"],
        ["train/good/0.png", "test/crack/0/0.png"],
    ],
)
def test_other_sources_do_not_fit(tmp_path: Path, keys: list[str]):
    found = listing(write_files(tmp_path, dict.fromkeys(keys, b"")))
    assert not mvtec.fits(found)
    with pytest.raises(SourceError, match="not a category"):
        mvtec.read(found)
