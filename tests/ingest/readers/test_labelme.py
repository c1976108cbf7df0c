"""Files of labelme; what labelme itself draws is in `exports/labelme.json`."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, box, drawn, listing, marked, reasons, write_files
from pictures import QUARANTINE, CountingFolder, encode

from defectline.components.common.errors import SourceError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import labelme
from defectline.components.ingest.readers.base import Layout, Sidecar
from defectline.components.ingest.snapshotter import take_snapshot

RECTANGLE = {"label": "scratch", "points": [[9, 8], [3, 4]], "shape_type": "rectangle"}


def document(picture: str, *shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "6.3.1",
        "flags": {},
        "shapes": [
            {"group_id": None, "description": "", "flags": {}, "mask": None} | shape for shape in shapes
        ],
        "imagePath": picture,
        "imageData": "iVBORw0KGgo=",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    } | more


def read(source: Path) -> Layout:
    return labelme.read(listing(source))


def test_each_picture_has_its_file_which_is_read_with_it(tmp_path: Path):
    write_files(tmp_path, {"a.json": document("a.png", RECTANGLE), "a.png": None, "b.png": None})
    assert labelme.fits(listing(tmp_path)) == "a.json is labelme's"
    layout = read(tmp_path)
    (record,) = layout.records
    assert isinstance(record.mask, Sidecar)
    assert (record.stem, record.image.key, record.mask.key) == ("a", "a.png", "a.json")
    assert marked(record, tmp_path).legend == '["scratch"]'
    np.testing.assert_array_equal(drawn(record, tmp_path), box(3, 4, 10, 9))
    assert layout.ignored == {"pictures that no annotation names": 1}


@pytest.mark.parametrize(
    ("flags", "shapes", "label"),
    [
        ({}, [], "OK"),
        ({"OK": True, "NG": False}, [], "OK"),
        ({"OK": False, "NG": True}, [RECTANGLE], "NG"),
        ({"NG": True}, [], "NG"),
        ({"dusty": True}, [RECTANGLE], ""),
    ],
)
def test_labels(tmp_path: Path, flags: dict[str, bool], shapes: list[dict[str, Any]], label: str):
    write_files(tmp_path, {"a.json": document("a.png", *shapes, flags=flags), "a.png": None})
    assert marked(read(tmp_path).records[0], tmp_path).label == label


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (document("a.png", flags={"dusty": True}), "not clear: it is called dusty, and nothing is drawn"),
        (document("a.png", flags={"OK": True, "NG": True}), "it is called OK, NG"),
        (document("other.png", RECTANGLE), r"a\.json is of another picture: other\.png"),
        (document("a.png", RECTANGLE | {"shape_type": "cuboid"}), "its type cuboid is not known"),
        (document("a.png", RECTANGLE | {"points": [[1, 2]]}), "a rectangle of 1 points"),
        (
            document("a.png", RECTANGLE | {"points": [["x", 2], [1, 2]]}),
            "its points are not pairs of numbers",
        ),
        (document("a.png", {"label": "x"}), "shape 1: 'points'"),
        ('{"shapes": [', "cannot be used: Expecting value"),
        ({"shapes": 1}, "no list of shapes"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_when_it_is_read(tmp_path: Path, content: Any, what: str):
    write_files(tmp_path, {"a.json": content, "a.png": None})
    with pytest.raises(SourceError, match=what):
        marked(read(tmp_path).records[0], tmp_path)


def test_masks_are_put_where_they_lie(tmp_path: Path):
    inside = np.array([[0, 1, 1], [1, 1, 0]], bool)
    mask = base64.b64encode(encode(inside.astype(np.uint8) * 255)).decode()
    shape = {"label": "dent", "shape_type": "mask", "points": [[5, 7], [7, 8]], "mask": mask}
    write_files(tmp_path, {"a.json": document("a.png", shape), "a.png": None})
    (record,) = read(tmp_path).records
    expected = box(0, 0, 0, 0)
    expected[7:9, 5:8] = inside
    np.testing.assert_array_equal(drawn(record, tmp_path), expected)
    with pytest.raises(SourceError, match="Annotated at another size"):
        drawn(record, tmp_path, (8, 8))


def test_converted_pictures_and_folders_of_their_own_are_found(tmp_path: Path):
    files = {
        "labels/a.json": document("..\\images\\a.jpg", RECTANGLE),
        "images/a.png": None,
        "labels/other.json": document("../images/b.png", RECTANGLE),
        "images/b.png": None,
        "labels/gone.json": document("../images/gone.png", RECTANGLE),
        "labels/settings.json": {"line": 4},
    }
    layout = read(write_files(tmp_path, files))
    assert [(record.image.key, record.mask and record.mask.key) for record in layout.records] == [
        ("images/a.png", "labels/a.json"),
        ("images/b.png", "labels/other.json"),
    ]
    for record in layout.records:
        np.testing.assert_array_equal(drawn(record, tmp_path), box(3, 4, 10, 9))
    assert reasons(layout) == {
        "NG/../images/gone": "labels/gone.json names a picture that the source does not have. "
        "Got ../images/gone.png."
    }
    assert layout.ignored == {"JSON files that are not labelme's": 1}


def test_pictures_in_a_folder_of_good_ones_need_no_file(tmp_path: Path):
    files = {"bad/a.json": document("a.png", RECTANGLE), "bad/a.png": None, "good/b.png": None}
    layout = read(write_files(tmp_path, files))
    assert [(record.stem, record.label) for record in layout.records] == [("bad/a", ""), ("good/b", "OK")]


def test_a_source_in_which_nothing_changed_needs_few_of_its_files(tmp_path: Path):
    files = {f"{number:03}.png": None for number in range(100)} | {
        f"{number:03}.json": document(f"{number:03}.png", *([RECTANGLE] if number % 2 else []))
        for number in range(100)
    }
    source = CountingFolder(write_files(tmp_path / "source", files))
    store = FolderStorage(tmp_path / "store")
    first = take_snapshot(source, store, QUARANTINE).snapshot
    assert (first.accepted, first.classes) == (100, ("scratch",))
    source.keys_read.clear()
    assert take_snapshot(source, store, QUARANTINE).snapshot.id == first.id
    assert len(source.keys_read) <= 50
    # A changed file is read again, with its picture.
    write_files(tmp_path / "source", {"001.json": document("001.png", RECTANGLE | {"label": "dent"})})
    source.keys_read.clear()
    assert take_snapshot(source, store, QUARANTINE).snapshot.classes == ("scratch", "dent")
    assert {"001.json", "001.png"} <= set(source.keys_read)
    assert len(source.keys_read) <= 50
