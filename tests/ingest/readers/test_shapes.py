"""What shapes and words mean."""

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, box
from hypothesis import given
from hypothesis import strategies as st

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import shapes
from defectline.components.ingest.readers.shapes import Annotation, Shape, fill, mark, pack_rings


def square(name: str, left: int, top: int, right: int, bottom: int) -> Shape:
    ring = [left, top, left, bottom, right, bottom, right, top]
    return Shape(name, fill, pack_rings([ring]))


numbers = st.floats(-1e6, 1e6)


@given(st.lists(st.lists(st.tuples(numbers, numbers), max_size=5), max_size=3))
def test_rings_are_unpacked_as_they_were_packed(rings: list[list[tuple[float, float]]]):
    data = pack_rings([[number for point in ring for number in point] for ring in rings])
    assert [[tuple(point) for point in ring.tolist()] for ring in shapes.unpack_rings(data)] == rings


@pytest.mark.parametrize("ring", [[1.0, 2, 3], [float("nan"), 1], ["1", "2"], 5, [None, 1]])
def test_rings_of_anything_else_are_refused(ring: object):
    with pytest.raises(ValueError, match="its points are not pairs"):
        pack_rings([ring])  # type: ignore[list-item]


def test_good_regions_and_ignored_ones_are_no_classes():
    drawn = [square("dent", 0, 0, 20, 20), square("OK", 2, 2, 10, 10), square("don't care", 4, 4, 8, 8)]
    annotation = Annotation("a.json", tuple(drawn), None)
    expected = box(0, 0, 20, 20)
    expected[2:10, 2:10] = 0
    expected[4:8, 4:8] = 255
    np.testing.assert_array_equal(annotation.draw(HEIGHT, WIDTH), expected)
    assert annotation.names == ["dent"]


def test_a_version_follows_from_all_that_is_drawn():
    versions = [
        Annotation("a.json", shapes, size).version
        for shapes, size in (
            ((square("dent", 0, 0, 2, 2),), None),
            ((square("dent", 0, 0, 2, 2),), (2, 2)),
            ((square("dents", 0, 0, 2, 2),), None),
            ((square("dent", 0, 0, 2, 3),), None),
            ((square("dent", 0, 0, 2, 2), square("dent", 0, 0, 2, 2)), None),
        )
    ]
    assert len(set(versions)) == len(versions)
    assert Annotation("b.json", (square("dent", 0, 0, 2, 2),), None).version == versions[0]


def test_a_picture_with_an_ignored_region_alone_is_drawn():
    annotation = Annotation("a.json", (square("ignore", 50, 50, 60, 60),), None)
    assert not annotation.draw(HEIGHT, WIDTH).any()


def test_more_classes_than_a_mask_can_hold_are_refused():
    with pytest.raises(SourceError, match="The picture has 33 classes"):
        mark("a.json", [square(f"kind {number}", 0, 0, 2, 2) for number in range(33)])


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("OK", "OK"), ("i.O.", "OK"), ("No defect", "OK"), ("n.i.O.", "NG"), ("NOT_OK", "NG"), ("line 2", "")],
)
def test_verdicts(word: str, verdict: str):
    assert shapes.read_verdict(word) == verdict
    assert mark("a.json", [square("dent", 0, 0, 2, 2)], [word]).label == verdict


@pytest.mark.parametrize(
    ("text", "split"),
    [("instances_train2017", "train"), ("valid", "validation"), ("contest", ""), ("Test", "test")],
)
def test_splits(text: str, split: str):
    assert shapes.read_split(text) == split
