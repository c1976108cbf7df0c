"""Pictures and masks in any folders, paired by their names."""

import pytest
from pictures import objects

from defectline.components.common.legend import write_legend
from defectline.components.ingest.labels.beside import match, to_layout
from defectline.components.ingest.readers.base import Layout


def layout(*keys: str, masks: str = "all", named: bool = False) -> Layout:
    return to_layout(match(objects(*keys)), masks, named)


def pairs(found: Layout) -> dict[str, str]:
    """Picture → mask."""
    return {one.image.key: one.mask.key if one.mask else "" for one in found.records}


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("a.jpg", "a.png"),
        ("a.bmp", "a.png"),
        ("a.JPG", "a.PNG"),
        ("a.png", "a_mask.png"),
        ("a.png", "a_MASK.PNG"),
        ("a.png", "a-masks.png"),
        ("a.png", "a.mask.png"),
        ("a.png", "a_GT.png"),
        ("10000.png", "10000_gt.bmp"),
        ("Part0.jpg", "Part0_label.bmp"),
        ("a.png", "a_seg.png"),
        ("a.png", "a_annotation.tif"),
        ("a.png", "a_ground_truth.png"),
        ("a.jpg", "a.jpg.png"),
        ("a.jpg", "a.jpg_mask.png"),
        ("a_image.png", "a_image_mask.png"),
        ("a_image.png", "a_mask.png"),
        ("007img.png", "007mask.png"),
        ("img_007.png", "mask_007.png"),
        ("bottle_label.jpg", "bottle_label_mask.png"),
        ("images/a.jpg", "masks/a.png"),
        ("images/a.jpg", "annotations/a.png"),
        ("img/a.jpg", "ann/a.jpg.png"),
        ("Images/x/a.jpg", "Labels/x/a.png"),
        ("x/images/a.png", "x/masks/a_mask.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("images/train/a.png", "masks/train/a.png"),
        ("a.png", "mask/a.png"),
        ("a/ü.png", "a/u\u0308_mask.png"),
    ],
)
def test_a_mask_is_found_by_its_name(picture: str, mask: str):
    found = layout(picture, mask)
    assert pairs(found) == {picture: mask}
    assert not found.rejected
    assert found.records[0].label == ""


def test_the_order_of_a_listing_does_not_matter():
    keys = ["a.png", "a_mask.png", "b.jpg", "b.png", "good/c.png", "c_mask.png"]
    assert layout(*keys) == layout(*reversed(keys))


def test_names_in_other_folders_are_others():
    found = layout("x/a.png", "x/a_mask.png", "y/a.png", "y/a_mask.png")
    assert pairs(found) == {"x/a.png": "x/a_mask.png", "y/a.png": "y/a_mask.png"}
    assert [one.stem for one in found.records] == ["x/a", "y/a"]


def test_class_folders_name_classes_where_one_means_good():
    found = layout(
        *("MT_Free/Imgs/1.jpg", "MT_Free/Imgs/1.png", "MT_Crack/Imgs/2.jpg", "MT_Crack/Imgs/2.png"),
        *("bad/3.jpg", "bad/3.png", "0.jpg", "0.png"),
    )
    assert {(one.stem, one.label, one.legend) for one in found.records} == {
        ("MT_Free/1", "OK", ""),
        ("MT_Crack/2", "NG", write_legend("MT_Crack")),
        ("bad/3", "NG", ""),
        ("0", "", ""),
    }


def test_below_other_folders_too_and_both_for_pictures_and_masks():
    found = layout(
        *("set/train/good/1.png", "set/train/crack/2.png", "set/test/crack/3.png"),
        *("masks/set/train/crack/2.png", "masks/set/test/crack/3.png"),
    )
    assert {(one.stem, one.label, one.legend, bool(one.mask)) for one in found.records} == {
        ("set/train/good/1", "OK", "", False),
        ("set/train/crack/2", "NG", write_legend("crack"), True),
        ("set/test/crack/3", "NG", write_legend("crack"), True),
    }


def test_folders_say_no_class_where_none_means_good():
    found = layout("line1/a.png", "line1/a_mask.png", "line2/b.png", "line2/b_mask.png")
    assert {(one.label, one.legend) for one in found.records} == {("", "")}


def test_folders_name_no_class_where_values_are_named():
    found = layout("good/1.png", "crack/2.png", "crack/2_mask.png", named=True)
    assert {(one.label, one.legend) for one in found.records} == {("NG", ""), ("OK", "")}


def test_an_id_begins_with_the_label_once():
    found = layout("OK/1.png", "NG/2.png", "NG/2_mask.png")
    assert {(one.label, one.stem) for one in found.records} == {("NG", "2"), ("OK", "1")}


@pytest.mark.parametrize(
    ("keys", "id", "reason", "fix"),
    [
        (["a.png", "a_mask.png", "b.png"], "b", "No mask of that name.", "masks=ng_only"),
        (["good/a.png", "bad/b1.png", "masks/bad/b01.png"], "NG/bad/b1", "No mask", "almost of that name"),
        (["good/a.png", "good/b.png", "good/b_mask.png"], "OK/good/a", "No mask", "all black"),
        (["a.png", "a_mask.png", "b_mask.png"], "b_mask", "No image of that name.", "Add it"),
        (["images/a.png", "masks/a.png", "masks/b.png"], "b", "No image of that name.", "Add it"),
        (["a.jpg", "a.png", "a_mask.png"], "a", "More than one", "Keep one"),
        (["a.png", "a_mask.png", "a_gt.png"], "a", "a.png, a_gt.png, a_mask.png", "Keep one"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "a", "More than one", "Keep one"),
        (["a.png", "a_mask.png", "scratch1.png", "scrach1_mask.png"], "scratch1", "No mask", "almost"),
    ],
)
def test_what_has_no_partner_or_several_is_rejected(keys: list[str], id: str, reason: str, fix: str):
    found = layout(*keys)
    rows = {row.id: row for row in found.rejected}
    assert reason in rows[id].reason
    assert fix in rows[id].fix
    told = " ".join(
        (*(r.image_key + r.mask_key + r.reason for r in found.rejected), *map(str, found.records))
    )
    assert all(key in told for key in keys)


def test_a_mask_that_almost_fits_is_named_with_its_picture():
    found = layout("a.png", "a_mask.png", "masks/b_msk1.png", "images/b.png")
    (fix,) = (row.fix for row in found.rejected if row.image_key)
    assert fix.startswith("masks/b_msk1.png is almost of that name")


def test_a_defective_picture_needs_no_mask():
    found = layout("good/a.png", "crack/b.png", "crack/c.png", "crack/c_mask.png")
    assert [(one.label, one.legend, one.mask is None) for one in found.records] == [
        ("NG", '"crack"', True),
        ("NG", '"crack"', False),
        ("OK", "", True),
    ]


def test_pictures_without_masks_may_be_good():
    found = layout("a.png", "a_mask.png", "b.png", masks="ng_only")
    assert pairs(found) == {"a.png": "a_mask.png", "b.png": ""}
    assert [one.label for one in found.records] == ["", "OK"]


def test_a_name_that_only_looks_like_a_masks_is_a_picture():
    found = layout("good/front_label.png", "crack/front_label.png", "crack/front_label.bmp")
    assert pairs(found) == {"good/front_label.png": "", "crack/front_label.bmp": "crack/front_label.png"}


def test_other_files_are_counted():
    found = layout("a.png", "a_mask.png", "README.md", "notes.md", "a.json")
    assert dict(found.ignored) == {".md": 2, ".json": 1}
