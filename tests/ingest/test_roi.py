"""What lies outside of a region of interest does not count, from the mask on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import QUARANTINE, CountingFolder, encode, objects, take

from defectline.components.common.classes import IGNORE
from defectline.components.common.dataset import open_dataset
from defectline.components.common.errors import SourceError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.roi import common_roi, load_rois
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.roi import part_regions
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.preprocess.step import preprocess


def left_half(source: Path) -> np.ndarray:
    image = cv2.imread(str(next((source / "NG").iterdir())), cv2.IMREAD_GRAYSCALE)
    roi = np.zeros(image.shape, np.uint8)
    roi[:, : roi.shape[1] // 2] = 255
    return roi


def test_a_region_of_its_own_comes_before_that_for_all():
    regions, others = part_regions(
        objects("roi.png", "ROI/7.png", "ROI/sub/8.bmp", "OK/7.png", "ROI/note.txt")
    )
    assert sorted(item.key for item in others) == ["OK/7.png", "ROI/note.txt"]
    assert regions.of("OK/7.png", "7").key == "ROI/7.png"
    assert regions.of("NG/sub/8.png", "sub/8").key == "ROI/sub/8.bmp"
    assert regions.of("NG/9.png", "9").key == "roi.png"
    assert regions.tell_unused([("OK/7.png", "7"), ("NG/9.png", "9")]) == [
        "no picture has the name of 1 file in ROI/, such as ROI/sub/8.bmp"
    ]


def test_outside_of_the_region_nothing_is_learned(source: Path, store: FolderStorage, tmp_path: Path):
    before = {row.id: row for row in read_pairs(store, take(source, store).id)}
    roi = left_half(source)
    (source / "roi.png").write_bytes(encode(roi))
    snapshot = take(source, store, max_rejected=1.0).id
    rows = [row for row in read_pairs(store, snapshot) if row.accepted]
    rois = load_rois(store, (row.roi for row in rows))
    assert np.array_equal(common_roi(rois, (row.roi for row in rows)), roi // 255)
    for row in rows:
        if row.label == "NG":
            truth = decode_mask((source / row.mask_key).read_bytes())
            assert row.defect_px == np.count_nonzero(truth[roi > 0])
        assert row.split == before[row.id].split
    preprocess(str(store.root), snapshot, tmp_path / "dataset", {"image_size": 32})
    prepared, splits = open_dataset(tmp_path / "dataset")
    assert prepared.ignores
    masks = splits["train"].masks[splits["train"].rows]
    assert (masks[:, :, 17:] == IGNORE).all()
    assert (masks[:, :, :15] != IGNORE).all()


def test_a_defect_outside_alone_is_not_one(source: Path, store: FolderStorage):
    roi = left_half(source)
    name = next((source / "NG_MSK").iterdir())
    name.write_bytes(encode(np.where(roi > 0, 0, 255).astype(np.uint8)))
    (source / "roi.png").write_bytes(encode(roi))
    rows = read_pairs(store, take(source, store, max_rejected=1.0).id)
    [row] = [row for row in rows if row.mask_key == f"NG_MSK/{name.name}"]
    assert row.status == "rejected"
    assert "marks nothing in its region of interest" in row.reason


def test_a_region_that_changes_is_read_and_one_that_stays_is_not(source: Path, store: FolderStorage):
    roi = left_half(source)
    (source / "roi.png").write_bytes(encode(roi))
    first = take(source, store, max_rejected=1.0)
    counting = CountingFolder(source)
    assert take_snapshot(counting, store, QUARANTINE).snapshot.id == first.id
    assert counting.keys_read == []
    roi[0] = 0
    (source / "roi.png").write_bytes(encode(roi))
    second = take(source, store, max_rejected=1.0)
    assert second.id != first.id
    assert {row.roi for row in read_pairs(store, second.id)} != {
        row.roi for row in read_pairs(store, first.id)
    }


def test_a_region_of_another_size_is_named(source: Path, store: FolderStorage):
    (source / "roi.png").write_bytes(encode(np.full((5, 7), 255, np.uint8)))
    ok = next((source / "OK").iterdir()).name
    (source / "ROI").mkdir()
    image = cv2.imread(str(source / "OK" / ok), cv2.IMREAD_GRAYSCALE)
    (source / "ROI" / ok).write_bytes(encode(np.zeros(image.shape, np.uint8)))
    with pytest.raises(SourceError, match="too few"):
        take(source, store, max_rejected=1.0)
    table = store.read(QUARANTINE).decode()
    assert "Its region of interest is 7×5" in table
    assert "nothing in it is white" in table
