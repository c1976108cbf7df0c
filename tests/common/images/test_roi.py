"""A region of interest is read, kept and fitted to frames."""

from pathlib import Path

import numpy as np
import pytest
from pictures import encode

from defectline.components.common.classes import IGNORE
from defectline.components.common.errors import StoreError
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.images.roi import (
    common_roi,
    ignore_outside,
    load_rois,
    read_roi,
    roi_for,
    write_roi,
)
from defectline.components.common.layout import roi_key
from defectline.components.common.storage.folder import FolderStorage

LEFT = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.uint8)


def test_white_counts_and_nothing_else_is_a_region():
    assert np.array_equal(read_roi(encode(LEFT * 255)), LEFT)
    for wrong in (LEFT * 0, LEFT * 2):
        with pytest.raises(UnreadableImage, match="region of interest"):
            read_roi(encode(wrong))


def test_the_same_region_has_one_digest_whatever_its_file(tmp_path: Path):
    digest, file = write_roi(read_roi(encode(LEFT * 255, "BMP")))
    assert digest == write_roi(read_roi(encode(LEFT)))[0]
    assert digest != write_roi(LEFT.T.copy())[0]
    store = FolderStorage(tmp_path)
    store.write(roi_key(digest), file)
    assert np.array_equal(load_rois(store, ["", digest])[digest], LEFT)
    with pytest.raises(StoreError, match="lost a region"):
        load_rois(store, ["0" * 16])


def test_a_frame_of_another_size_has_the_region_and_one_of_another_shape_does_not():
    assert roi_for(LEFT, 2, 4) is LEFT
    assert np.array_equal(roi_for(LEFT, 4, 8), LEFT.repeat(2, 0).repeat(2, 1))
    with pytest.raises(UnreadableImage, match="another shape"):
        roi_for(LEFT, 4, 4)


def test_outside_nothing_counts():
    found = ignore_outside(np.array([[0, 1, 2, 0], [0, 0, 255, 0]], np.uint8), LEFT)
    assert found.tolist() == [[0, 1, IGNORE, IGNORE], [0, 0, IGNORE, IGNORE]]


def test_a_line_has_the_region_that_all_pictures_share():
    rois = {"a": LEFT, "b": 1 - LEFT}
    assert common_roi(rois, ["a", "a"]) is LEFT
    assert common_roi(rois, ["a", "b"]) is None
    assert common_roi(rois, ["a", ""]) is None
    assert common_roi({}, []) is None
