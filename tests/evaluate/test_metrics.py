"""Counting, and the numbers that follow, against values worked out by hand."""

import numpy as np
from counts import counted, score_map
from hypothesis import given, settings
from hypothesis import strategies as st

from defectline.components.common.inference.inspection import Grades, answer
from defectline.components.evaluate.metrics import (
    Count,
    called,
    confusion,
    cost_of_errors,
    count,
    grade_counts,
    intervals,
    summarize,
)
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.settings import Costs


def test_pixels_and_regions_are_counted():
    truth = (score_map((2, 2, 4, 4, 1), (12, 12, 2, 2, 1)) > 0).astype(np.uint8)
    given_answer = answer(score_map((2, 2, 4, 6, 900)), 0.5, 5)
    made = count("NG/1", "NG", given_answer, truth)
    assert made == Count("NG/1", "NG", "NG", 0.9, tp=16, fp=8, fn=4, regions=(2, 0, 0), regions_hit=(1, 0, 0))


def test_true_regions_that_touch_at_a_corner_are_one():
    truth = (score_map((2, 2, 3, 3, 1), (5, 5, 3, 3, 1)) > 0).astype(np.uint8)
    assert count("NG/1", "NG", answer(score_map(), 0.5, 5), truth).regions == (1, 0, 0)


def test_regions_belong_to_the_class_below_whose_limit_their_area_is():
    truth = np.zeros((40, 40), np.uint8)
    truth[0:7, 0:9] = 1  # 63 px
    truth[0:8, 12:20] = 1  # 64 px
    truth[10:25, 0:17] = 1  # 255 px
    truth[20:36, 20:36] = 1  # 256 px
    found = np.zeros((40, 40), np.uint16)
    found[20:36, 20:36] = found[0:7, 0:9] = 900
    made = count("NG/1", "NG", answer(found, 0.5, 5), truth)
    assert (made.regions, made.regions_hit) == ((1, 2, 1), (1, 0, 1))
    metrics = summarize([made], None)
    assert [metrics[f"regions_{size}"] for size in ("small", "medium", "large")] == [1, 2, 1]
    assert [metrics[f"region_recall_{size}"] for size in ("small", "medium", "large")] == [1, 0, 1]
    assert metrics["region_recall"] == 0.5


def test_nothing_to_find_and_nothing_found_has_no_pooled_overlap_and_a_perfect_one_per_picture():
    pixels = Pixels()
    pixels.see(score_map((1, 1, 2, 2, 300)), np.zeros((20, 20), np.uint8))
    metrics = summarize([counted("OK", "OK", score=0.1)] * 3, pixels)
    assert metrics == {
        "iou": None,
        "dice": None,
        "image_iou": 1.0,
        "image_dice": 1.0,
        "pixel_ap": None,
        "escape": None,
        "overkill": 0.0,
        "image_auroc": None,
        "image_ap": None,
        "region_recall": None,
        "region_recall_small": None,
        "region_recall_medium": None,
        "region_recall_large": None,
        "regions_small": 0,
        "regions_medium": 0,
        "regions_large": 0,
        "ng": 0,
        "ok": 3,
    }


def test_perfect_and_all_wrong():
    right = summarize([counted("NG", "NG", tp=9, score=0.9), counted("OK", "OK", score=0.1)], None)
    assert [right[k] for k in ("iou", "dice", "image_auroc", "image_ap", "region_recall")] == [1.0] * 5
    assert (right["image_iou"], right["image_dice"]) == (1, 1)
    assert (right["escape"], right["overkill"]) == (0, 0)
    wrong = summarize([counted("NG", "OK", fn=9, score=0.1), counted("OK", "NG", fp=9, score=0.9)], None)
    assert [wrong[k] for k in ("iou", "dice", "image_auroc", "region_recall")] == [0.0] * 4
    assert (wrong["image_iou"], wrong["image_dice"]) == (0, 0)
    assert (wrong["escape"], wrong["overkill"]) == (1, 1)


def test_pooled_overlap_counts_pixels_and_the_mean_counts_pictures():
    metrics = summarize([counted("NG", "NG", tp=6, fp=2, fn=2), counted("NG", "OK", fn=10)], None)
    assert metrics["iou"] == 6 / 20
    assert metrics["dice"] == 12 / 26
    assert metrics["image_iou"] == (6 / 10 + 0) / 2
    assert metrics["image_dice"] == (12 / 16 + 0) / 2
    assert (metrics["escape"], metrics["overkill"], metrics["image_auroc"]) == (0.5, None, None)


def test_no_picture_at_all():
    metrics = summarize([], Pixels())
    assert {name for name, value in metrics.items() if value is not None} == {
        "regions_small",
        "regions_medium",
        "regions_large",
        "ng",
        "ok",
    }
    assert intervals([]) == {"iou": None, "escape": None, "overkill": None}


def test_false_defects_on_good_pictures_lower_the_iou():
    counts = [counted("NG", "NG", tp=10), counted("OK", "NG", fp=10)]
    assert summarize(counts, None)["iou"] == 0.5
    assert summarize(counts, None)["image_iou"] == 0.5


def test_grades_by_true_label():
    grades = Grades(a_px=10, b_px=50)
    counts = [
        counted("NG", "NG", tp=10),
        counted("NG", "NG", tp=10, fp=1),
        counted("NG", "NG", tp=50),
        counted("NG", "NG", tp=50, fp=1),
        counted("NG", "OK", fn=80),
        counted("OK", "OK"),
        counted("OK", "NG", fp=60),
    ]
    assert grade_counts(counts, grades) == {
        "OK": {"A": 1, "B": 0, "reject": 1},
        "NG": {"A": 2, "B": 2, "reject": 1},
    }


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=12))
def test_intervals_hold_the_estimate(pixels):
    counts = [counted("NG", "NG" if tp else "OK", tp, fp, fn) for tp, fp, fn in pixels]
    spans, metrics = intervals(counts), summarize(counts, None)
    for key in ("iou", "escape", "overkill"):
        if metrics[key] is None:
            assert spans[key] is None
        else:
            assert 0 <= spans[key].low <= spans[key].high <= 1
    # Wilson's interval holds the rate; the quantiles of a bootstrap need not hold an extreme estimate.
    assert spans["escape"].low - 1e-9 <= metrics["escape"] <= spans["escape"].high + 1e-9


def test_wilson_as_in_the_books():
    span = intervals([counted("NG", "NG", tp=1)] * 10)["escape"]
    assert (span.low, round(span.high, 4)) == (0.0, 0.2775)


def test_the_bootstrap_narrows_with_the_number_of_pictures():
    rng = np.random.default_rng(0)
    counts = [counted("NG", "NG", int(t), 10, 10) for t in rng.integers(10, 100, 400)]
    few, many = intervals(counts[:20])["iou"], intervals(counts)["iou"]
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < summarize(counts, None)["iou"] < many.high


def without_mask(verdict: str, fp: int = 0, score: float = 0.5) -> Count:
    return Count("NG", "NG", verdict, score, 0, fp, 0, (0, 0, 0), (0, 0, 0), masked=False)


def test_pixels_are_counted_where_there_are_masks_and_verdicts_everywhere():
    known = [counted("NG", "NG", tp=6, fp=2, fn=2, score=0.9), counted("OK", "OK", score=0.1)]
    some = summarize([*known, without_mask("OK", score=0.2), without_mask("NG", 50, 0.8)], None)
    alone = summarize(known, None)
    same = ("iou", "dice", "image_iou", "image_dice", "overkill", "region_recall")
    assert [some[key] for key in same] == [alone[key] for key in same]
    assert (some["escape"], some["image_auroc"], some["ng"], some["ng_masked"]) == (1 / 3, 1.0, 3, 1)
    assert "ng_masked" not in alone
    assert intervals([*known, without_mask("NG", 50)])["iou"] == intervals(known)["iou"]
    none = summarize([known[1], without_mask("NG", 50)], None)
    assert [none[key] for key in same if key != "overkill"] == [None] * 5
    assert (none["escape"], none["ng_masked"]) == (0, 0)
    assert intervals([known[1], without_mask("NG", 50)])["iou"] is None


def test_a_hit_without_a_mask_is_a_verdict():
    truth = np.zeros((20, 20), np.uint8)
    made = count("NG/1", "NG", answer(score_map((2, 2, 4, 6, 900)), 0.5, 5), truth, ("a", "b"), masked=False)
    assert (made.wrong, made.missed, made.fp, made.classes, made.masked) == (False, False, 24, None, False)


def test_what_a_person_has_to_look_at_is_neither_an_escape_nor_an_overkill():
    counts = [
        counted("NG", "OK", fn=9),
        counted("NG", "LOOK", tp=9),
        counted("NG", "NG", tp=9),
        counted("OK", "LOOK", fp=5),
        counted("OK", "NG", fp=5),
    ]
    found = summarize(counts, None)
    assert (found["escape"], found["overkill"], found["look"]) == (1 / 3, 1 / 2, 2 / 5)
    assert cost_of_errors(counts, Costs(escape=3.0, look=0.25, escape_of={})) == 3 + 1 + 2 * 0.25
    # Rows are good and defective; a matrix of KFP is square.
    assert confusion(counts) == [[0, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert called(counts) == ("OK", "LOOK", "NG")
    decided = [count for count in counts if count.verdict != "LOOK"]
    assert "look" not in summarize(decided, None)
    assert confusion(decided) == [[0, 1], [1, 1]]
