"""Champions on the same test pictures."""

import pytest
from counts import stored_counts

from defectline.components.common.reporting.ended_runs import Ended
from defectline.components.common.reporting.standings import compare, draw_chart


def run(name: str) -> Ended:
    return Ended(name, "2026-01-02T03:04:05+00:00", None, {}, frozenset())


def test_only_pictures_that_all_were_tested_on_count():
    newest, oldest = stored_counts("2 3"), stored_counts("1 5 9", range(8), tp=5)
    first, last = compare([(run("b"), newest), (run("a"), oldest)])
    assert [standing.run.run for standing in (first, last)] == ["a", "b"]
    assert (first.ng, first.ok, first.escapes, first.overkills) == (4, 4, 2, 0)
    assert (last.ng, last.ok, last.escapes, last.overkills) == (4, 4, 1, 1)
    assert (first.iou, last.iou) == (pytest.approx(0.5), pytest.approx(0.8))


def test_parts_for_a_person_are_neither_escapes_nor_overkills():
    looked = [count | {"verdict": "LOOK"} for count in stored_counts("", range(4))]
    (found,) = compare([(run("a"), looked)])
    assert (found.ng, found.ok, found.escapes, found.overkills, found.looks) == (2, 2, 0, 0, 4)


def test_a_champion_of_other_pictures_begins_a_history_of_its_own():
    parts = (("c", range(4)), ("b", range(6)), ("a", range(20, 24)))
    found = compare([(run(name), stored_counts("", ids)) for name, ids in parts])
    assert [each.run.run for each in found] == ["b", "c"]
    assert compare([]) == []


def test_pictures_without_a_mask_have_no_outline():
    unmasked = [count | {"masked": False} for count in stored_counts("")]
    assert compare([(run("a"), unmasked)])[0].iou is None


def test_a_chart_says_what_it_shows():
    chart = draw_chart("IoU", [0.5, None, 1.0])
    assert 'aria-label="IoU 0.50 to 1.00"' in chart
    assert chart.count("<circle") == 2
    assert 'points="8.0,45.0 272.0,8.0"' in chart
    assert "IoU unknown" in draw_chart("IoU", [None])
