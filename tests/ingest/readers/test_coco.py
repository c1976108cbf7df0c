"""COCO files, compared with pycocotools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, box, drawn, listing, reasons, write_files
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import coco
from defectline.components.ingest.readers.base import Layout

POLYGON = [[3, 2, 3, 12, 20.5, 12.25, 20.5, 2]]
TWO_PARTS = [[25, 5, 25, 15, 33, 15, 33, 5], [2.5, 20, 12, 20, 7, 28.75]]


def rle(pixels: np.ndarray, compressed: bool) -> dict[str, Any]:
    """Run lengths in COCO's two ways."""
    packed = coco_mask.encode(np.asfortranarray(pixels))
    if compressed:
        return {"size": packed["size"], "counts": packed["counts"].decode()}
    flat = pixels.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    return {"size": list(pixels.shape), "counts": [0, *counts] if flat[0] else counts}


def document(
    annotations: list[dict[str, Any]], names: tuple[str, ...] = ("a.png",), **more: Any
) -> dict[str, Any]:
    return {
        "info": {"description": "made by a test"},
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 7} | each for n, each in enumerate(annotations)
        ],
        "categories": [{"id": 7, "name": "scratch"}, {"id": 3, "name": "dent"}, {"id": 9, "name": "Ignore"}],
    } | more


def read(source: Path) -> Layout:
    return coco.read(listing(source))


@pytest.mark.parametrize(
    "segmentation",
    [
        POLYGON,
        TWO_PARTS,
        [[-5.0, -5, 60, 4, 60, 50]],
        rle(box(3, 4, 9, 11), compressed=True),
        rle(box(0, 0, 9, 11), compressed=False),
    ],
    ids=["polygon", "two parts", "beyond the picture", "compressed", "uncompressed"],
)
def test_pixels_are_those_of_pycocotools(tmp_path: Path, segmentation: Any):
    content = document([{"segmentation": segmentation, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}])
    write_files(tmp_path, {"annotations.json": content, "a.png": None})
    tool = COCO(str(tmp_path / "annotations.json"))
    (record,) = read(tmp_path).records
    np.testing.assert_array_equal(drawn(record, tmp_path), tool.annToMask(tool.anns[0]))
    assert (record.label, record.legend) == ("", '["scratch"]')


def test_later_shapes_lie_over_earlier_ones_and_names_are_numbered_by_picture(tmp_path: Path):
    annotations = [
        {"segmentation": rle(box(0, 0, 20, 20), True)},
        {"segmentation": rle(box(10, 10, 30, 25), True), "category_id": 3},
        {"segmentation": rle(box(12, 12, 14, 14), True), "category_id": 9},
    ]
    write_files(tmp_path, {"annotations.json": document(annotations), "a.png": None})
    (record,) = read(tmp_path).records
    expected = box(0, 0, 20, 20, 2)
    expected[10:25, 10:30] = 1
    expected[12:14, 12:14] = 255
    np.testing.assert_array_equal(drawn(record, tmp_path), expected)
    assert record.legend == '["dent", "scratch"]'


def test_listed_pictures_without_annotations_are_good_and_others_are_ignored(tmp_path: Path):
    content = document([{"segmentation": POLYGON}], ("a.png", "b.png"))
    write_files(tmp_path, {"annotations.json": content, "a.png": None, "b.png": None, "c.png": None})
    layout = read(tmp_path)
    assert [(record.stem, record.label, record.mask is None) for record in layout.records] == [
        ("a", "", False),
        ("b", "OK", True),
    ]
    assert layout.ignored == {"pictures that no annotation names": 1}


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["annotations/instances_train.json", "annotations/instances_val2017.json"], ["train", "validation"]),
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], ["train", "validation"]),
        (["annotations/instances_default.json"], [""]),
        (["labels.json", "test.json"], ["", "test"]),
    ],
)
def test_splits_are_those_of_the_files(tmp_path: Path, files: list[str], splits: list[str]):
    for number, file in enumerate(files):
        folder = Path(file).parent if "_annotations" in file else Path("images")
        write_files(tmp_path, {file: document([], (f"{number}.png",)), f"{folder}/{number}.png": None})
    assert coco.fits(listing(tmp_path)) == f"{min(files)} is COCO"
    assert [record.split for record in read(tmp_path).records] == splits


def test_crowds_do_not_count_but_where_every_mask_is_written_as_one(tmp_path: Path):
    crowd = [{"segmentation": rle(box(3, 4, 9, 11), False), "iscrowd": 1}]
    write_files(tmp_path, {"annotations.json": document(crowd), "a.png": None})
    layout = read(tmp_path)
    np.testing.assert_array_equal(drawn(layout.records[0], tmp_path), box(3, 4, 9, 11, 255))
    assert layout.records[0].legend == "[]"
    assert layout.notes == ("annotations.json: 1 annotations with iscrowd do not count",)
    licenses = [{"name": "", "id": 0, "url": ""}]
    write_files(tmp_path, {"annotations.json": document(crowd, licenses=licenses)})
    np.testing.assert_array_equal(drawn(read(tmp_path).records[0], tmp_path), box(3, 4, 9, 11))


def test_boxes_without_an_outline_are_filled_and_noted(tmp_path: Path):
    annotations = [{"segmentation": [], "bbox": [5, 6, 10, 4]}]
    write_files(tmp_path, {"annotations.json": document(annotations), "a.png": None})
    layout = read(tmp_path)
    np.testing.assert_array_equal(drawn(layout.records[0], tmp_path), box(5, 6, 15, 10))
    assert layout.notes == ("annotations.json: 1 boxes without an outline are filled",)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"segmentation": [[1, 2, 3]]}, "its points are not pairs of finite numbers"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 5]}}, "its runs make 10 pixels, not 1200"),
        ({"segmentation": POLYGON, "category_id": 8}, "category 8 is not among the categories"),
        ({"keypoints": [1, 2, 2]}, "it is called scratch, and nothing is drawn"),
    ],
)
def test_an_annotation_that_cannot_be_used_rejects_its_picture_alone(
    tmp_path: Path, annotation: dict[str, Any], reason: str
):
    content = document([annotation], ("a.png", "b.png"))
    write_files(tmp_path, {"annotations.json": content, "a.png": None, "b.png": None})
    layout = read(tmp_path)
    assert [record.stem for record in layout.records] == ["b"]
    assert reason in reasons(layout)["NG/a"]


@pytest.mark.parametrize(
    ("annotation", "shape", "what"),
    [
        ({"segmentation": POLYGON}, (WIDTH, HEIGHT), "Annotated at another size: 40×30, the image is 30×40."),
        (
            {"segmentation": [[1, 1, 1.01, 1, 1, 1.01]]},
            (HEIGHT, WIDTH),
            "No pixel lies in any shape: scratch.",
        ),
        ({"segmentation": rle(np.ones((4, 4), np.uint8), True)}, (HEIGHT, WIDTH), "its mask is 4×4"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "junk~"}}, (HEIGHT, WIDTH), "cannot be drawn"),
    ],
)
def test_a_drawing_that_does_not_fit_its_picture_is_an_error(
    tmp_path: Path, annotation: dict[str, Any], shape: tuple[int, int], what: str
):
    write_files(tmp_path, {"annotations.json": document([annotation]), "a.png": None})
    with pytest.raises(SourceError, match=what):
        drawn(read(tmp_path).records[0], tmp_path, shape)


def test_a_version_is_of_the_pictures_own_annotations(tmp_path: Path):
    names = ("a.png", "b.png")
    both = [{"segmentation": POLYGON}, {"segmentation": TWO_PARTS, "image_id": 2}]
    write_files(tmp_path, {"annotations.json": document(both, names), "a.png": None, "b.png": None})
    before = [record.mask.version for record in read(tmp_path).records]
    both[1] |= {"category_id": 3}
    text = json.dumps(document(both, names, info={}), indent=2)
    write_files(tmp_path, {"annotations.json": text})
    after = [record.mask.version for record in read(tmp_path).records]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_picture_in_two_files_is_used_where_they_agree(tmp_path: Path):
    polygon, other = document([{"segmentation": POLYGON}]), document([{"segmentation": TWO_PARTS}])
    write_files(tmp_path, {"all.json": polygon, "train.json": polygon, "images/a.png": None})
    (record,) = read(tmp_path).records
    assert record.split == "train"
    write_files(tmp_path, {"all.json": other})
    with_b = document([], ("b.png",))
    write_files(tmp_path, {"b.json": with_b, "images/b.png": None})
    assert reasons(read(tmp_path)) == {
        "NG/images/a": "It is annotated 2 times, in different ways: all.json, train.json."
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [], "annotations": [',
        '{"images": [1], "annotations": []}',
        '{"images": [], "annotations": [] ]',
    ],
    ids=["cut short", "numbers", "brackets"],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str):
    write_files(tmp_path, {"instances.json": text, "a.png": None})
    with pytest.raises(SourceError, match=r"instances\.json is damaged"):
        read(tmp_path)


def test_two_images_of_one_id_are_an_error(tmp_path: Path):
    content = document([{"segmentation": POLYGON}], ("a.png", "b.png"))
    content["images"][1]["id"] = 1
    write_files(tmp_path, {"annotations.json": content, "a.png": None, "b.png": None})
    with pytest.raises(SourceError, match="two images with the id 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"version": "5.0", "shapes": [], "imagePath": "a.png"},
        [{"id": 1, "annotations": [], "data": {"image": "a.png"}}],
        {"info": {}, "categories": {"label": {"labels": []}}, "items": [{"annotations": [{"id": 0}]}]},
        "no JSON",
    ],
    ids=["labelme", "Label Studio", "Datumaro", "text"],
)
def test_other_json_is_not_coco(tmp_path: Path, content: Any):
    assert coco.fits(listing(write_files(tmp_path, {"a.json": content, "a.png": None}))) == ""


def test_files_of_other_tasks_are_left_alone(tmp_path: Path):
    files = {
        "annotations/instances_default.json": document([{"segmentation": POLYGON}]),
        "annotations/person_keypoints_default.json": document([{"keypoints": [1, 2, 2]}]),
        "images/default/a.png": None,
    }
    layout = read(write_files(tmp_path, files))
    assert [record.label for record in layout.records] == [""]
    assert layout.ignored == {"COCO files of keypoints, captions or other tasks": 1}
