"""Champions on the same test pictures."""

import pytest

from defectline.components.common.reporting.ended_runs import Ended
from defectline.components.common.reporting.standings import compare, draw_chart


def run(name: str) -> Ended:
    return Ended(name, "2026-01-02T03:04:05+00:00", None, {}, frozenset())


def counts(wrong: str, ids: range = range(10), tp: int = 8) -> list[dict]:
    """As counts.json: good pictures of even numbers and bad ones of odd, of which those in `wrong` got the
    other verdict."""
    made = []
    for number in ids:
        label = ("OK", "NG")[number % 2]
        other = ("NG", "OK")[number % 2] if str(number) in wrong.split() else label
        pixels = {"tp": tp, "fp": 0, "fn": 10 - tp} if number % 2 else {"tp": 0, "fp": 0, "fn": 0}
        made.append({"id": f"{label}/{number}", "label": label, "verdict": other, **pixels})
    return made


def test_only_pictures_that_all_were_tested_on_count():
    newest, oldest = counts("2 3"), counts("1 5 9", range(8), tp=5)
    first, last = compare([(run("b"), newest), (run("a"), oldest)])
    assert [standing.run.run for standing in (first, last)] == ["a", "b"]
    assert (first.ng, first.ok, first.escapes, first.overkills) == (4, 4, 2, 0)
    assert (last.ng, last.ok, last.escapes, last.overkills) == (4, 4, 1, 1)
    assert (first.iou, last.iou) == (pytest.approx(0.5), pytest.approx(0.8))


def test_a_champion_of_other_pictures_begins_a_history_of_its_own():
    parts = (("c", range(4)), ("b", range(6)), ("a", range(20, 24)))
    found = compare([(run(name), counts("", ids)) for name, ids in parts])
    assert [each.run.run for each in found] == ["b", "c"]
    assert compare([]) == []


def test_pictures_without_a_mask_have_no_outline():
    unmasked = [count | {"masked": False} for count in counts("")]
    assert compare([(run("a"), unmasked)])[0].iou is None


def test_a_chart_says_what_it_shows():
    chart = draw_chart("IoU", [0.5, None, 1.0])
    assert 'aria-label="IoU 0.50 to 1.00"' in chart
    assert chart.count("<circle") == 2
    assert 'points="8.0,45.0 272.0,8.0"' in chart
    assert "IoU unknown" in draw_chart("IoU", [None])
