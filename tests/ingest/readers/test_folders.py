"""Which mask belongs to which picture, by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import objects

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers.folders import pair_objects

LAYOUT = ("OK/1.png", "OK_MSK/1.png", "NG/1.png", "NG_MSK/1.png")


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
    assert [(one.image.key, one.mask.key, one.label, one.stem) for one in found.records] == [
        ("NG/1.png", "NG_MSK/1_mask.png", "NG", "1"),
        ("OK/a.jpg", "OK_MSK/a.PNG", "OK", "a"),
        ("OK/b/1_Image.bmp", "OK_MSK/b/1_Mask.png", "OK", "b/1"),
    ]
    assert not found.rejected


def test_the_same_name_in_both_classes_is_two_pairs():
    assert [(one.label, one.stem) for one in pair_objects(objects(*LAYOUT)).records] == [
        ("NG", "1"),
        ("OK", "1"),
    ]


@pytest.mark.parametrize(
    ("more", "id", "reason"),
    [
        (["OK/2.png"], "OK/2", "No mask"),
        (["NG_MSK/2.png"], "NG/2", "No image"),
        (["NG/002.png", "NG_MSK/2_mask1.png"], "NG/002", "No mask"),
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
    assert len(found.records) == 2
    assert found.rejected[0].id == id
    assert reason in found.rejected[0].reason
    assert all(row.fix and row.status == "rejected" for row in found.rejected)
    listed = {key for row in found.rejected for key in (row.image_key, row.mask_key) if key}
    mentioned = " ".join(row.reason for row in found.rejected)
    # Every file is named: none leaves silently.
    for key in more:
        name = key.encode(errors="backslashreplace").decode()
        assert name in listed or name in mentioned


def test_a_defective_picture_needs_no_mask():
    found = pair_objects(objects(*LAYOUT, "NG/2.png"))
    assert [(one.image.key, one.mask) for one in found.records if one.stem == "2"] == [("NG/2.png", None)]
    assert not found.rejected


def test_files_elsewhere_are_counted_only():
    found = pair_objects(objects(*LAYOUT, "README.md", "OKAY/1.png", "ok/1.png", "sub/OK/1.png"))
    assert (found.ignored.total(), len(found.records), found.rejected) == (4, 2, [])


@settings(deadline=None)
@given(st.permutations([*LAYOUT, "OK/2.png", "OK/3.png", "OK/3.bmp", "OK_MSK/3.png", "NG_MSK/9.png"]))
def test_the_order_of_a_listing_does_not_matter(keys: list[str]):
    assert pair_objects(objects(*keys)) == pair_objects(objects(*sorted(keys)))


@pytest.mark.parametrize(
    ("keys", "what", "got"),
    [
        ([], "empty", "no file"),
        (["a.png", "train/OK/a.png"], "another layout", "2 files"),
        (["OK/1.png", "OK_MSK/1.png", "NG_MSK/1.png"], "NG has no images", "NG/"),
        (["NG/1.png", "NG_MSK/1.png", "OK_MSK/1.png"], "OK has no images", "OK/"),
    ],
)
def test_another_layout_is_explained(keys: list[str], what: str, got: str):
    with pytest.raises(SourceError, match=what) as caught:
        pair_objects(objects(*keys))
    assert got in caught.value.got
    assert "OK_MSK/" in caught.value.expected
