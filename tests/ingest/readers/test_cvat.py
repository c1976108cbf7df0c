"""CVAT's XML for images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, box, drawn, listing, reasons, write_files
from pycocotools import mask as coco_mask

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import cvat
from defectline.components.ingest.readers.base import Layout

META = "<version>1.1</version><meta><job><labels><label><name>scratch</name></label></labels></job></meta>"
POLYGON = '<polygon label="scratch" occluded="0" points="3.00,2.00;3.00,12.00;20.50,12.25" z_order="0"/>'


def image(inside: str, name: str = "a.png", more: str = "") -> str:
    return f'<image id="0" name="{name}" {more} width="{WIDTH}" height="{HEIGHT}">{inside}</image>'


def document(*images: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{META}{"".join(images)}</annotations>'


def read(source: Path) -> Layout:
    return cvat.read(listing(source))


def read_one(source: Path, inside: str) -> np.ndarray:
    write_files(source, {"annotations.xml": document(image(inside)), "images/a.png": None})
    assert cvat.fits(listing(source)) == "annotations.xml is CVAT's"
    (record,) = read(source).records
    return drawn(record, source)


def by_coco(*ring: float) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([list(ring)], HEIGHT, WIDTH))[..., 0]


def test_polygons_and_boxes_are_filled_as_in_the_export_of_masks(tmp_path: Path):
    np.testing.assert_array_equal(read_one(tmp_path, POLYGON), by_coco(3, 2, 3, 12, 20.5, 12.25))
    flat = '<box label="scratch" xtl="3.00" ytl="4.00" xbr="9.00" ybr="11.00" z_order="0"/>'
    np.testing.assert_array_equal(read_one(tmp_path, flat), box(3, 4, 9, 11))
    turned = '<box label="scratch" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90.00" z_order="0"/>'
    np.testing.assert_array_equal(read_one(tmp_path, turned), by_coco(17, 7, 17, 17, 13, 17, 13, 7))


def test_ellipses_lines_and_masks(tmp_path: Path):
    ellipse = '<ellipse label="scratch" cx="20.30" cy="15.20" rx="8.40" ry="3.60" rotation="30" z_order="0"/>'
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(expected, (20, 15), (8, 4), 30, 0, 360, 1, -1)
    np.testing.assert_array_equal(read_one(tmp_path, ellipse), expected)
    line = '<polyline label="scratch" points="5.00,10.00;15.00,10.00" z_order="0"/>'
    pixels = read_one(tmp_path, line)
    np.testing.assert_array_equal(pixels, box(5, 9, 16, 12))
    mask = '<mask label="scratch" rle="1, 2, 3" left="5" top="7" width="3" height="2" z_order="0"/>'
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[7, 6:8] = 1
    np.testing.assert_array_equal(read_one(tmp_path, mask), expected)


def test_shapes_lie_over_each_other_by_their_order(tmp_path: Path):
    upper = '<box label="dent" xtl="0" ytl="0" xbr="20" ybr="20" z_order="2"/>'
    lower = '<box label="scratch" xtl="10" ytl="10" xbr="30" ybr="25" z_order="-1"/>'
    ignored = '<box label="dont_care" xtl="2" ytl="2" xbr="4" ybr="4" z_order="10"/>'
    expected = box(10, 10, 30, 25, 2)
    expected[:20, :20] = 1
    expected[2:4, 2:4] = 255
    np.testing.assert_array_equal(read_one(tmp_path, ignored + upper + lower), expected)


def test_tags_say_good_and_pictures_without_shapes_are_good(tmp_path: Path):
    files = {
        "annotations.xml": document(
            image('<tag label="OK" source="manual"></tag>', "a.png"),
            image("", "b.png"),
            image('<tag label="NG"/>' + POLYGON, "c.png"),
            image('<tag label="scratch"/>', "d.png"),
            image('<points label="scratch" points="1,2" z_order="0"/>', "e.png"),
            image('<mask label="scratch" rle="1, 2" left="5" top="7" width="3" height="2"/>', "f.png"),
            image('<polygon label="scratch" points="1;2,3"/>', "g.png"),
            image("", "gone.png"),
        )
    } | {f"images/{name}.png": None for name in "abcdefg"}
    layout = read(write_files(tmp_path, files))
    assert [(record.stem, record.label) for record in layout.records] == [
        ("images/a", "OK"),
        ("images/b", "OK"),
        ("images/c", "NG"),
        ("images/f", ""),
    ]
    assert "called scratch, and nothing is drawn" in reasons(layout)["NG/images/d"]
    assert "called scratch, and nothing is drawn" in reasons(layout)["NG/images/e"]
    assert "polygon scratch: its points are not pairs" in reasons(layout)["NG/images/g"]
    assert "names a picture that the source does not have" in reasons(layout)["NG/gone"]
    with pytest.raises(SourceError, match="its runs make 3 pixels, not 3×2"):
        drawn(layout.records[-1], tmp_path)


def test_subsets_are_splits_and_say_in_which_folder_a_picture_lies(tmp_path: Path):
    files = {
        "annotations.xml": document(
            image(POLYGON, "a.png", 'subset="Train"'),
            image("", "a.png", 'subset="Test"'),
            image("", "b.png", 'subset="default"'),
        ),
        "images/Train/a.png": None,
        "images/Test/a.png": None,
        "images/default/b.png": None,
    }
    layout = read(write_files(tmp_path, files))
    assert [(record.image.key, record.label, record.split) for record in layout.records] == [
        ("images/Test/a.png", "OK", "test"),
        ("images/Train/a.png", "", "train"),
        ("images/default/b.png", "OK", ""),
    ]


def test_a_file_for_videos_is_refused(tmp_path: Path):
    text = document('<track id="0" label="scratch"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>')
    with pytest.raises(SourceError, match="CVAT's format for videos"):
        read(write_files(tmp_path, {"annotations.xml": text, "a.png": None}))


def test_a_damaged_file_is_an_error_and_pascal_voc_is_another_format(tmp_path: Path):
    with pytest.raises(SourceError, match=r"annotations\.xml is not a whole XML file"):
        read(write_files(tmp_path, {"annotations.xml": document(image(""))[:-20], "a.png": None}))
    voc = {"annotations.xml": "<annotation><filename>a.png</filename></annotation>"}
    assert cvat.fits(listing(write_files(tmp_path, voc))) == ""
