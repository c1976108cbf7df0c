"""What the values of masks mean: names, numbers, and what does not count."""

import numpy as np
import pytest
from pictures import encode

from defectline.components.common.classes import DEFAULT_CLASSES, IGNORE
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import (
    Names,
    class_names,
    class_table,
    is_numbered,
    name_values,
    read_areas,
    write_areas,
    write_legend,
)
from defectline.components.common.snapshot import Pair


def pair(id: str, legend: str = "", areas: str = "") -> Pair:
    return Pair(f"NG/{id}", "NG", "accepted", legend=legend, areas=areas)


CRACK = pair("a", write_legend("crack"), '{"1": 5}')
NAMED = pair("b", write_legend(["dust", "crack"]), '{"1": 2, "2": 3, "255": 4}')
PLAIN = pair("c", "", '{"1": 7}')


def test_areas_count_every_value_but_the_good_one():
    values = np.array([[0, 1, 1], [3, 255, 0]], np.uint8)
    assert read_areas(pair("x", areas=write_areas(values))) == {1: 2, 3: 1, 255: 1}


def test_an_index_without_areas_has_the_whole_one():
    assert read_areas(Pair("NG/a", "NG", "accepted", defect_px=9)) == {1: 9}
    assert read_areas(Pair("OK/a", "OK", "accepted")) == {}


def test_one_unnamed_class_is_the_default_one():
    assert name_values([PLAIN]) == [PLAIN]
    assert class_names([PLAIN], {}, ()) == DEFAULT_CLASSES
    assert class_names([], {}, ()) == DEFAULT_CLASSES


def test_numbers_that_nothing_names_are_names():
    pairs = name_values([PLAIN, pair("d", areas='{"10": 1, "2": 4}')])
    assert class_names(pairs, {}, ()) == ("1", "2", "10")
    assert all(is_numbered(one) for one in pairs)


def test_classes_keep_their_numbers_and_new_ones_follow():
    assert class_names([CRACK, NAMED], {}, ()) == ("crack", "dust")
    assert class_names([CRACK, NAMED], {}, ("scratch", "dust")) == ("dust", "crack")


def test_a_class_is_renamed_merged_or_ignored():
    assert class_names([CRACK, NAMED], {"dust": "ignore"}, ()) == ("crack",)
    assert class_names([CRACK, NAMED], {"dust": "crack"}, ()) == ("crack",)
    table = class_table(NAMED, ("crack",), {"dust": "ignore"})
    assert list(table[[0, 1, 2, 255]]) == [0, IGNORE, 1, IGNORE]


def test_the_same_class_has_one_number_whatever_the_file_calls_it():
    classes = class_names([CRACK, NAMED], {}, ())
    assert class_table(CRACK, classes, {})[1] == class_table(NAMED, classes, {})[2] == 1


def test_a_class_of_another_snapshot_is_an_error():
    with pytest.raises(SourceError, match="class that the snapshot"):
        class_table(NAMED, ("crack",), {})


def test_the_truth_is_the_file_through_the_table():
    file = encode(np.array([[0, 1, 2, 255]], np.uint8))
    found = Names(("crack", "dust")).truth(file, (1, 4), NAMED)
    assert found.tolist() == [[0, 2, 1, 255]]
    marked = encode(np.array([[0, 255]], np.uint8))
    assert Names(("dust", "crack")).truth(marked, (1, 2), CRACK).tolist() == [[0, 2]]
    # 255 is ignored where values are numbers.
    assert Names(("crack", "dust")).truth(marked, (1, 2), NAMED).tolist() == [[0, 255]]


def test_no_file_is_an_empty_truth():
    assert not Names(DEFAULT_CLASSES).truth(b"", (2, 3), PLAIN).any()
