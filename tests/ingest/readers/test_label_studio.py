"""Label Studio's export and the files of its target storage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, box, drawn, listing, reasons, write_files
from hypothesis import given
from hypothesis import strategies as st

from defectline.components.ingest.readers import label_studio
from defectline.components.ingest.readers.base import Layout


def encode_brush(values: np.ndarray, literal: bool = False) -> list[int]:
    """Run lengths as rle-pack writes them: as runs of one value, or every value by itself."""
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    at = 0
    while at < len(values):
        end = at + 1
        while end < len(values) and end - at < 65536 and (literal or values[end] == values[at]):
            end += 1
        bits.append(f"{0 if literal else 1}11{end - at - 1:016b}")
        bits += [f"{value:08b}" for value in (values[at:end] if literal else values[at : at + 1])]
        at = end
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def brush(pixels: np.ndarray, label: str = "scratch") -> dict[str, Any]:
    rle = encode_brush(np.repeat((pixels > 0).astype(np.uint8).ravel() * 255, 4))
    return region("brushlabels", {"format": "rle", "rle": rle}, label)


def region(kind: str, value: dict[str, Any], label: str = "scratch", **more: Any) -> dict[str, Any]:
    return {
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": value | {kind: [label]},
        "from_name": "label",
        "to_name": "image",
        "type": kind,
    } | more


def choice(*words: str) -> dict[str, Any]:
    return {"value": {"choices": list(words)}, "from_name": "verdict", "to_name": "image", "type": "choices"}


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    created = "2026-03-01T10:00:00.000000Z"
    default = {"id": 1, "was_cancelled": False, "ground_truth": False, "created_at": created}
    return default | {"result": list(results)} | more


def task(number: int, picture: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": number, "annotations": list(annotations), "data": {"image": picture}} | more


def read(source: Path) -> Layout:
    assert label_studio.fits(listing(source))
    return label_studio.read(listing(source))


def read_one(source: Path, *results: dict[str, Any]) -> np.ndarray:
    write_files(source, {"export.json": [task(1, "a.png", annotation(*results))], "a.png": None})
    (record,) = read(source).records
    return drawn(record, source)


@given(st.lists(st.sampled_from([0, 1, 128, 255]), min_size=1, max_size=200), st.booleans())
def test_run_lengths_are_decoded(values: list[int], literal: bool):
    data = bytes(encode_brush(np.array(values), literal))
    assert label_studio.decode_brush(data, len(values)).tolist() == values
    with pytest.raises(ValueError, match="its run"):
        label_studio.decode_brush(data[:-2], len(values))
    with pytest.raises(ValueError, match="its runs make"):
        label_studio.decode_brush(data, len(values) + 1)


def test_regions_of_each_kind(tmp_path: Path):
    np.testing.assert_array_equal(read_one(tmp_path, brush(box(3, 4, 9, 11))), box(3, 4, 9, 11))
    points = [[10, 10], [10, 50], [50, 50], [50, 10]]
    polygon = region("polygonlabels", {"points": points, "closed": True})
    np.testing.assert_array_equal(read_one(tmp_path, polygon), box(4, 3, 20, 15))
    rectangle = {"x": 10, "y": 10, "width": 40, "height": 40, "rotation": 0}
    np.testing.assert_array_equal(read_one(tmp_path, region("rectanglelabels", rectangle)), box(4, 3, 20, 15))
    # Turned by a quarter about its corner, it lies left of it.
    turned = {"x": 50, "y": 10, "width": 40, "height": 20, "rotation": 90}
    np.testing.assert_array_equal(read_one(tmp_path, region("rectanglelabels", turned)), box(14, 3, 20, 19))
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 0}
    pixels = read_one(tmp_path, region("ellipselabels", ellipse))
    rows, columns = np.nonzero(pixels)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 29, 9, 20)
    assert abs(int(pixels.sum()) - np.pi * 10 * 6) < 8


def test_a_label_may_be_a_result_of_its_own(tmp_path: Path):
    shape = region("polygon", {"points": [[10, 10], [10, 50], [50, 50], [50, 10]]}, id="x1")
    del shape["value"]["polygon"]
    label = {
        "id": "x1",
        "type": "labels",
        "value": {"labels": ["dent"]},
        "from_name": "l",
        "to_name": "image",
    }
    write_files(tmp_path, {"export.json": [task(1, "a.png", annotation(shape, label))], "a.png": None})
    (record,) = read(tmp_path).records
    assert record.legend == '["dent"]'
    np.testing.assert_array_equal(drawn(record, tmp_path), box(4, 3, 20, 15))


@pytest.mark.parametrize(
    ("annotations", "chosen"),
    [
        ([{"created_at": "2026-01-01"}, {"created_at": "2026-02-01"}], 1),
        ([{"created_at": "2026-03-01"}, {"created_at": "2026-02-01"}], 0),
        ([{"created_at": "2026-01-01"}, {"created_at": "2026-02-01", "was_cancelled": True}], 0),
        ([{"created_at": "2026-01-01", "ground_truth": True}, {"created_at": "2026-02-01"}], 0),
        ([{"ground_truth": True, "was_cancelled": True}, {"created_at": "2026-02-01"}], 1),
        ([{"id": 9}, {"id": 10}], 1),
    ],
)
@pytest.mark.parametrize("storage", [False, True])
def test_which_annotation_counts(
    tmp_path: Path, annotations: list[dict[str, Any]], chosen: int, storage: bool
):
    shapes = [box(3, 4, 9, 11), box(13, 14, 19, 21)]
    made = [annotation(brush(shape), **each) for shape, each in zip(shapes, annotations, strict=True)]
    if storage:
        of = {"id": 1, "data": {"image": "a.png"}}
        files = {f"labels/{number}": each | {"task": of} for number, each in enumerate(made)}
    else:
        files = {"export.json": [task(1, "a.png", *made)]}
    (record,) = read(write_files(tmp_path, files | {"a.png": None})).records
    np.testing.assert_array_equal(drawn(record, tmp_path), shapes[chosen])


def test_choices_say_good_and_tasks_without_an_annotation_are_left_out(tmp_path: Path):
    defect = brush(box(3, 4, 9, 11))
    tasks = [
        task(1, "a.png", annotation()),
        task(2, "b.png", annotation(choice("Good"))),
        task(3, "c.png", annotation(choice("NG"), defect)),
        task(4, "d.png", annotation(choice("OK"), defect)),
        task(5, "e.png", annotation(choice("dusty"))),
        task(6, "f.png"),
        task(7, "g.png", annotation(defect, was_cancelled=True)),
        task(8, "h.png", annotation(region("keypointlabels", {"x": 1, "y": 2, "width": 0.2}))),
        task(9, "i.png", annotation(defect | {"image_rotation": 90})),
        task(10, "", annotation(defect)),
        task(11, "j.png", annotation(choice("NG"))),
    ]
    files = {"export.json": tasks} | {f"{name}.png": None for name in "abcdefghij"}
    layout = read(write_files(tmp_path, files))
    assert [(record.stem, record.label) for record in layout.records] == [
        ("a", "OK"),
        ("b", "OK"),
        ("c", "NG"),
        ("d", "OK"),
        ("j", "NG"),
    ]
    assert layout.records[3].mask, "the checks reject it: good, but marked"
    assert layout.records[4].mask is None
    found = reasons(layout)
    assert "called dusty, and nothing is drawn" in found["NG/e"]
    assert "called scratch, and nothing is drawn" in found["NG/h"]
    assert "was turned in Label Studio" in found["NG/i"]
    assert found["NG/task 10"] == "Task 10 does not name one picture."
    assert layout.ignored["tasks without an annotation that was not cancelled"] == 2


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/data/upload/1/1a2b3c4d-a.png", "images/1a2b3c4d-a.png"),
        ("/data/upload/1/1a2b3c4d-a.png", "images/a.png"),
        ("http://localhost:8080/data/upload/1/1a2b3c4d-a.png", "a.png"),
        ("/data/local-files/?d=line%202/a.png", "line 2/a.png"),
        ("http://localhost:8080/data/local-files/?d=mnt/parts/a.png", "parts/a.png"),
        ("images/a.png", "images/a.png"),
    ],
)
def test_where_pictures_lie(tmp_path: Path, path: str, key: str):
    files = {"export.json": [task(1, path, annotation())], key: None}
    assert [record.image.key for record in read(write_files(tmp_path, files)).records] == [key]


def test_json_min_holds_the_same(tmp_path: Path):
    value = brush(box(3, 4, 9, 11))["value"] | {"original_width": WIDTH, "original_height": HEIGHT}
    common = {"annotator": 1, "created_at": "2026-01-01", "lead_time": 2.5}
    entries = [
        {"image": "a.png", "id": 1, "label": [value], "annotation_id": 3, **common},
        {"image": "b.png", "id": 2, "verdict": "OK", "annotation_id": 4, **common},
        {"image": "c.png", "id": 3, "verdict": [{"choices": ["dusty", "NG"]}], "annotation_id": 5, **common},
    ]
    files = {"export.json": entries, "a.png": None, "b.png": None, "c.png": None}
    layout = read(write_files(tmp_path, files))
    assert [(record.stem, record.label) for record in layout.records] == [("a", ""), ("b", "OK"), ("c", "NG")]
    np.testing.assert_array_equal(drawn(layout.records[0], tmp_path), box(3, 4, 9, 11))


def test_damaged_files_and_other_json_are_told(tmp_path: Path):
    files = {
        "1": task(1, "a.png", annotation()),
        "2": json.dumps(task(2, "b.png", annotation()))[:-5],
        "3.json": {"some": "settings"},
        "a.png": None,
    }
    layout = read(write_files(tmp_path, files))
    assert [record.stem for record in layout.records] == ["a"]
    assert reasons(layout)["NG/2"].startswith("2 is damaged")
    assert layout.ignored["JSON without tasks of Label Studio and their pictures"] == 1
