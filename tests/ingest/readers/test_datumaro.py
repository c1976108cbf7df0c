"""Datumaro's own format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import listing, same, truth, unpack, write_files
from parts import PARTS

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import datumaro
from defectline.components.ingest.readers.base import Layout

CATEGORIES = {
    "label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in ("scratch", "dent")]}
}
SQUARE = {"type": "polygon", "label_id": 0, "points": [1.0, 1.0, 4.0, 1.0, 4.0, 3.0, 1.0, 3.0], "z_order": 0}
SIZE = (6, 8)


def rows(*found: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes of top, left, bottom and right, (6, 8)."""
    pixels = np.zeros(SIZE, bool)
    for top, left, bottom, right in found:
        pixels[top:bottom, left:right] = True
    return pixels


def read(root: Path, *annotations: dict[str, Any], categories: Any = CATEGORIES, **item: Any) -> Layout:
    item = {"id": "a", "image": {"path": "a.png", "size": list(SIZE)}, **item, "annotations": annotations}
    good = {"id": "b", "image": {"path": "b.png"}, "annotations": []}
    text = json.dumps({"info": {}, "categories": categories, "items": [item, good]})
    return datumaro.read(
        listing(
            write_files(
                root,
                {"annotations/default.json": text, "images/default/a.png": b"", "images/default/b.png": b""},
            )
        ),
    )


def classes(layout: Layout, root: Path) -> dict[str, np.ndarray]:
    assert not layout.rejected
    return truth(layout.records[0], listing(root), SIZE)


def test_an_export_of_datumaro(tmp_path: Path):
    found = listing(unpack("datumaro", tmp_path))
    assert datumaro.fits(found) == "annotations/test.json is Datumaro's"
    layout = datumaro.read(found)
    assert len(layout.records) == len(PARTS)
    for record in layout.records:
        part = PARTS[record.stem.rpartition("/")[2]]
        assert same(truth(record, found), part.truth)
        assert record.split == {"val": "validation"}.get(part.split, part.split)
        assert record.label == ("" if part.boxes else "OK")
    assert (layout.rejected, layout.ignored) == ([], {})


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (SQUARE, {"scratch": rows((1, 1, 3, 4))}),
        (
            {"type": "mask", "label_id": 1, "rle": {"counts": [7, 2, 39], "size": list(SIZE)}},
            {"dent": rows((1, 1, 3, 2))},
        ),
        ({"type": "bbox", "label_id": 1, "bbox": [2.0, 1.0, 4.0, 2.0]}, {"dent": rows((1, 2, 3, 6))}),
        # Turned by a right angle about its centre, (4, 2).
        (
            {"type": "bbox", "label_id": 1, "bbox": [2.0, 1.0, 4.0, 2.0], "attributes": {"rotation": 90.0}},
            {"dent": rows((0, 3, 4, 5))},
        ),
        ({"type": "polygon", "points": SQUARE["points"]}, {"defect": rows((1, 1, 3, 4))}),
    ],
)
def test_annotations_as_pixels(tmp_path: Path, annotation: dict[str, Any], expected: dict[str, np.ndarray]):
    assert same(classes(read(tmp_path, annotation), tmp_path), expected)


def test_an_ellipse(tmp_path: Path):
    ellipse = {"type": "ellipse", "label_id": 1, "points": [1.0, 1.0, 7.0, 5.0]}
    (pixels,) = classes(read(tmp_path, ellipse), tmp_path).values()
    ys, xs = np.mgrid[:6, :8] + 0.5
    assert (pixels == (((xs - 4) / 3) ** 2 + ((ys - 3) / 2) ** 2 < 1)).mean() > 0.9
    assert pixels[2:4, 2:6].all()


def test_the_uppermost_counts(tmp_path: Path):
    above = {**SQUARE, "label_id": 1, "points": [1, 1, 2, 1, 2, 3, 1, 3], "z_order": 1}
    layout = read(tmp_path, above, SQUARE)
    assert same(classes(layout, tmp_path), {"scratch": rows((1, 2, 3, 4)), "dent": rows((1, 1, 3, 2))})


def test_a_box_of_an_outline_is_not_filled(tmp_path: Path):
    box = {"type": "bbox", "label_id": 0, "bbox": [0, 0, 8, 6], "group": 3}
    layout = read(tmp_path, box, {**SQUARE, "group": 3})
    assert same(classes(layout, tmp_path), {"scratch": rows((1, 1, 3, 4))})
    assert not layout.notes
    alone = read(tmp_path, box)
    assert alone.notes == ("annotations/default.json: 1 boxes without an outline are filled",)


def test_labels_of_the_whole_picture(tmp_path: Path):
    names = {"label": {"labels": [{"name": "scratch"}, {"name": "good"}]}}
    assert read(tmp_path, {"type": "label", "label_id": 1}, categories=names).records[0].label == "OK"
    (rejected,) = read(tmp_path, {"type": "label", "label_id": 0}).rejected
    assert "nothing is drawn" in rejected.reason


def test_an_item_without_a_path_is_found_by_its_id(tmp_path: Path):
    layout = read(tmp_path, SQUARE, image={"path": "", "size": list(SIZE)})
    assert layout.records[0].image.key == "images/default/a.png"


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"type": "points", "label_id": 0, "points": [1, 1]}, "points, which marks no pixels"),
        ({**SQUARE, "points": [1, 1, 2]}, "polygon, its points"),
        ({**SQUARE, "label_id": 7}, "the label 7"),
        ({"type": "mask", "label_id": 0}, "mask, KeyError"),
    ],
)
def test_a_picture_whose_annotations_cannot_be_used(tmp_path: Path, annotation: dict[str, Any], reason: str):
    layout = read(tmp_path, annotation)
    assert [one.stem for one in layout.records] == ["images/default/b"]
    (rejected,) = layout.rejected
    assert reason in rejected.reason


def test_a_changed_annotation_is_another_version(tmp_path: Path):
    versions = {
        read(tmp_path, {**SQUARE, "points": [1, 1, 4, 1, 4, bottom, 1, bottom]}).records[0].mask.version
        for bottom in (3, 4, 3)
    }
    assert len(versions) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}',
        '{"items": [], "categories": {}}',
        "{",
    ],
)
def test_other_files_do_not_fit(tmp_path: Path, text: str):
    assert not datumaro.fits(listing(write_files(tmp_path, {"annotations/default.json": text})))


def test_a_damaged_file_is_named(tmp_path: Path):
    text = json.dumps({"categories": CATEGORIES, "items": [{"id": "a"}]})[:-5]
    found = listing(write_files(tmp_path, {"annotations/default.json": text}))
    assert datumaro.fits(found)
    with pytest.raises(SourceError, match=r"annotations/default.json is damaged"):
        datumaro.read(found)
