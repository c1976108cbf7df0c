"""Calibrating: threshold and least area from scores made by hand."""

import numpy as np
import pytest
from counts import score_map
from hypothesis import given, settings
from hypothesis import strategies as st

from defectline.components.common.errors import SourceError
from defectline.components.common.inference.inspection import LEVELS, answer, image_score
from defectline.components.evaluate.validation.calibration import (
    AREAS_PX,
    BELOW,
    HIGHEST,
    LOWEST,
    ONLY_DEFECTIVE,
    ONLY_GOOD,
    Calibrator,
    OperatingPoint,
)

ESCAPE_COST = 3.0


def _see(*pictures: tuple[str, np.ndarray]) -> Calibrator:
    calibrator = Calibrator()
    for label, picture in pictures:
        calibrator.see(label, picture)
    return calibrator


def _called_bad(point: OperatingPoint, picture: np.ndarray) -> bool:
    return answer(picture, point.threshold, point.min_area_px).verdict == "NG"


def _wrong(calibrator: Calibrator, pictures: list[tuple[str, np.ndarray]]) -> int:
    point = calibrator.calibrate(ESCAPE_COST)
    return sum(_called_bad(point, picture) != (label == "NG") for label, picture in pictures)


def test_separable_pictures_are_separated_nearer_to_the_good_ones():
    pictures = [
        ("OK", score_map((1, 1, 6, 6, 200))),
        ("NG", score_map((5, 5, 5, 5, 800))),
        ("NG", score_map((5, 5, 5, 5, 700))),
    ]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    assert calibrator.calibrate(escape_cost=1).threshold == pytest.approx(0.45, abs=0.002)
    assert calibrator.calibrate(escape_cost=3).threshold == pytest.approx(0.325, abs=0.002)


def test_a_defect_is_found_only_where_it_is():
    """A speck far from the defect does not draw the threshold down, nor up."""
    defect = score_map((5, 5, 5, 5, 1)).astype(np.uint8)
    calibrator = Calibrator()
    calibrator.see("OK", score_map((1, 1, 6, 6, 100)))
    calibrator.see("NG", score_map((5, 5, 5, 5, 900)), truth=defect)
    for speck in ((15, 15, 3, 3, 120), (15, 15, 3, 3, 600)):
        calibrator.see("NG", score_map(speck), truth=defect)
    one_side = score_map((5, 8, 5, 9, 800))
    calibrator.see("NG", one_side, truth=defect)
    point = calibrator.calibrate(ESCAPE_COST)
    assert point.threshold == pytest.approx(0.1 + 0.7 / (1 + ESCAPE_COST), abs=0.002)
    # Where nobody knows where the defect is, any region finds it.
    calibrator = _see(("OK", score_map((1, 1, 6, 6, 100))), ("NG", score_map((15, 15, 3, 3, 120))))
    assert calibrator.calibrate(ESCAPE_COST).threshold < 0.12


def test_bright_dust_is_told_from_a_dim_defect_by_its_area():
    pictures = [("OK", score_map((1, 1, 2, 4, 950))), ("NG", score_map((5, 5, 5, 5, 500)))]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    assert calibrator.calibrate(ESCAPE_COST).min_area_px in (10, 20)


def test_inseparable_pictures_get_the_fewest_wrong_verdicts():
    pictures = [
        ("OK", score_map((5, 5, 5, 5, 600))),
        ("OK", score_map((5, 5, 5, 5, 100))),
        ("NG", score_map((5, 5, 5, 5, 550))),
        ("NG", score_map((5, 5, 5, 5, 900))),
    ]
    assert _wrong(_see(*pictures), pictures) == 1


def test_the_cost_of_an_escape_moves_the_threshold():
    calibrator = _see(
        ("OK", score_map((5, 5, 5, 5, 600))),
        ("NG", score_map((5, 5, 5, 5, 550))),
        ("NG", score_map((5, 5, 5, 5, 900))),
    )
    assert calibrator.calibrate(escape_cost=10).threshold <= 0.55
    assert 0.6 < calibrator.calibrate(escape_cost=0.1).threshold <= 0.9


def test_equal_scores_cannot_be_separated():
    same = score_map((5, 5, 5, 5, 500))
    pictures = [("OK", same), ("NG", same)]
    assert _wrong(_see(*pictures), pictures) == 1


def _area(pixels: int, level: int) -> np.ndarray:
    """A row of `pixels` at `level`."""
    return score_map((5, 0, 1, pixels, level)) if pixels <= 20 else score_map((5, 0, pixels // 20, 20, level))


def test_only_good_pictures_get_a_threshold_just_above_their_highest_score_and_a_note():
    pictures = [("OK", score_map((1, 1, 8, 8, 300))), ("OK", score_map((1, 1, 8, 8, 200)))]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    chosen = calibrator.calibrate(ESCAPE_COST)
    assert [promise.rate for promise in chosen.promises] == ["overkill"]
    assert (chosen.threshold, chosen.min_area_px) == (0.35, 5)
    assert chosen.note == ONLY_GOOD.format(rejected=0, count=2)
    # Whatever an escape costs: none was seen.
    assert calibrator.calibrate(100) == calibrator.calibrate(0.1)


@pytest.mark.parametrize(
    ("good", "point"),
    [
        # Small bright specks: an area that they do not reach keeps the threshold even.
        ([_area(5, 900), _area(10, 420)], (0.47, 10)),
        # Bright ones of any size: the lowest threshold there is.
        ([_area(20, 900), _area(40, 700)], (0.75, 40)),
        ([_area(40, 1000)], (0.95, 5)),
        ([_area(40, 0)], (0.05, 5)),
    ],
)
def test_specks_of_good_pictures_decide_the_least_area(good, point):
    chosen = _see(*[("OK", picture) for picture in good]).calibrate(ESCAPE_COST)
    assert (chosen.threshold, chosen.min_area_px) == point


@pytest.mark.parametrize(
    ("max_overkill", "count", "rejected"),
    # Half of what is allowed, and nothing where one picture is more than that.
    [(0.1, 19, 1), (0.1, 18, 0), (0.1, 100, 5), (1.0, 3, 2), (0.0, 100, 0)],
)
def test_of_good_pictures_alone_half_of_those_are_rejected_that_may_be(max_overkill, count, rejected):
    pictures = [("OK", _area(40, 100 + 5 * number)) for number in range(count)]
    point = _see(*pictures).calibrate(ESCAPE_COST, max_overkill)
    assert sum(1 for number in range(count) if (100 + 5 * number) / 1000 >= point.threshold) == rejected
    assert f"where {rejected} of {count} of them are rejected" in point.note


@pytest.mark.parametrize(
    ("bad", "threshold"),
    [
        ([_area(40, 300), _area(40, 800)], 0.25),
        # A defect that cannot be told from noise does not pull the threshold down to it.
        ([_area(40, 20), _area(40, 800)], 0.75),
        ([_area(40, 20)], 0.95),
        ([_area(40, 60)], 0.05),
    ],
)
def test_only_defective_pictures_get_a_threshold_just_below_the_lowest_score_and_a_note(bad, threshold):
    chosen = _see(*[("NG", picture) for picture in bad]).calibrate(ESCAPE_COST)
    assert [promise.rate for promise in chosen.promises] == ["escape"]
    assert (chosen.threshold, chosen.min_area_px) == (threshold, 5)
    assert chosen.note == ONLY_DEFECTIVE.format(where=BELOW)


def test_only_defective_pictures_with_masks_get_the_threshold_where_their_outlines_fit_best():
    """All are found at 0.15 too, with a halo of 0.3 around the defect."""
    truth = score_map((5, 5, 6, 6, 1)).astype(np.uint8)
    haloed = np.maximum(score_map((3, 3, 10, 10, 300)), score_map((5, 5, 6, 6, 900)))
    faint = score_map((5, 5, 6, 6, 200))
    calibrator = Calibrator()
    for number in range(20):
        calibrator.see("NG", haloed if number else faint, truth=truth)
    careful = calibrator.calibrate(ESCAPE_COST)
    assert careful.threshold <= 0.15
    assert "(IoU 0.37) and 0 of 20" in careful.note
    chosen = calibrator.calibrate(ESCAPE_COST, max_escape=0.1)
    assert 0.3 < chosen.threshold <= 0.85
    assert "(IoU 0.95) and 1 of 20" in chosen.note


def test_both_labels_need_no_note():
    chosen = _see(("OK", _area(40, 100)), ("NG", _area(40, 900))).calibrate(ESCAPE_COST)
    assert chosen.note == ""


def test_no_picture_at_all_is_an_error_that_says_so():
    with pytest.raises(SourceError, match="no validation picture"):
        Calibrator().calibrate(ESCAPE_COST)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["OK", "NG"]), st.integers(0, LEVELS), st.integers(1, 6)),
        min_size=1,
        max_size=8,
    )
)
def test_no_other_constants_cost_less(drawn):
    pictures = [(label, score_map((5, 5, side, side, level))) for label, level, side in drawn]
    point = _see(*pictures).calibrate(ESCAPE_COST)
    assert LOWEST / LEVELS <= point.threshold <= HIGHEST / LEVELS
    bad = np.array([label == "NG" for label, _ in pictures])
    levels = np.arange(LOWEST, HIGHEST + 1)
    scores = np.array([[image_score(picture, area) for area in AREAS_PX] for _, picture in pictures])
    called_bad = scores[..., None] >= levels
    escapes, overkills = (~called_bad[bad]).sum(axis=0), called_bad[~bad].sum(axis=0)
    given_bad = np.array([_called_bad(point, picture) for _, picture in pictures])
    cost = ESCAPE_COST * np.sum(~given_bad[bad]) + np.sum(given_bad[~bad])
    assert cost == (ESCAPE_COST * escapes + overkills).min()


# What can be promised


def _levels(label: str, *levels: int) -> list[tuple[str, np.ndarray]]:
    return [(label, score_map((5, 5, 5, 5, level))) for level in levels]


def test_of_the_thresholds_that_keep_both_promises_the_cheapest_is_taken():
    """By cost alone one good part at 650 would be rejected, to find the defect at 600."""
    good, bad = range(100, 600, 50), range(700, 950, 25)
    calibrator = _see(*_levels("OK", *good, 650), *_levels("NG", *bad, 600))
    assert calibrator.calibrate(ESCAPE_COST).threshold < 0.6
    point = calibrator.calibrate(ESCAPE_COST, max_overkill=1 / 12, max_escape=2 / 12)
    assert 0.65 < point.threshold <= 0.7
    assert [promise.holds for promise in point.promises] == [True, True]
    said = [str(promise) for promise in point.promises]
    assert said == [
        "Promised on average: at most 16.7 % of defective parts are called OK, and with 95 % certainty "
        "at most 36.4 %, "
        "judged by 11 defective validation pictures.",
        "Promised on average: at most 8.33 % of good parts are called NG, and with 95 % certainty "
        "at most 23.8 %, "
        "judged by 11 good validation pictures.",
    ]


def test_a_promise_that_cannot_be_made_says_why():
    calibrator = _see(*_levels("OK", *[100] * 9, 900), *_levels("NG", *[800] * 3))
    escape, overkill = calibrator.calibrate(ESCAPE_COST, max_overkill=0.1, max_escape=0.1).promises
    assert (escape.holds, escape.level) == (False, None)
    assert str(escape) == (
        "Not promised that at most 10 % of defective parts are called OK: with 3 defective validation "
        "pictures no rate under 25 % can be; 9 or more are needed."
    )
    assert (overkill.holds, overkill.level) == (False, 0.901)
    assert str(overkill).endswith("it would be with a threshold from 0.901.")


def test_pictures_of_one_part_count_as_one():
    calibrator = Calibrator()
    for part in range(9):
        for picture in range(4):
            calibrator.see("OK", score_map((5, 5, 5, 5, 100)), part=f"part {part}")
            calibrator.see("NG", score_map((5, 5, 5, 5, 700 + picture)), part=f"part {part}")
    enough = calibrator.calibrate(ESCAPE_COST, max_overkill=0.1, max_escape=0.1)
    assert [str(promise) for promise in enough.promises] == [
        "Promised on average: at most 10 % of defective parts are called OK, and with 95 % certainty "
        "at most 35.9 %, "
        "judged by 36 defective validation pictures of 9 parts.",
        "Promised on average: at most 10 % of good parts are called NG, and with 95 % certainty "
        "at most 35.9 %, "
        "judged by 36 good validation pictures of 9 parts.",
    ]
    too_few = calibrator.calibrate(ESCAPE_COST, max_overkill=0.1, max_escape=0.05).promises[0]
    assert str(too_few).endswith(
        "with 36 defective validation pictures of 9 parts no rate under 10 % can be; 19 or more are needed."
    )


def test_no_threshold_is_named_where_none_would_do():
    defect = score_map((5, 5, 5, 5, 1)).astype(np.uint8)
    calibrator = Calibrator()
    for level in [0] * 5 + [800] * 10:
        calibrator.see("NG", score_map((5, 5, 5, 5, level)), truth=defect)
        calibrator.see("OK", score_map((5, 5, 5, 5, 100)))
    escape, overkill = calibrator.calibrate(ESCAPE_COST, max_overkill=0.1, max_escape=0.1).promises
    assert str(escape).endswith(
        "are called OK: of 15 defective validation pictures 5 score below 0.05, where noise decides: they "
        "escape at every threshold, and 0 may. Bring more images of defects like those."
    )
    assert overkill.holds


def _overlapping() -> Calibrator:
    """Nine parts of each label: a threshold that rejects one good part lets two defective ones pass."""
    return _see(*_levels("OK", *[100] * 7, 500, 700), *_levels("NG", 300, 400, *[900] * 7))


@pytest.mark.parametrize(
    ("look_as", "threshold", "ng_from", "holds"),
    [
        ("NG", 0.4, None, [True, False]),
        ("OK", 0.501, None, [False, True]),
        ("LOOK", 0.4, 0.501, [True, True]),
    ],
)
def test_between_what_can_be_promised_parts_are_called_as_the_user_says(look_as, threshold, ng_from, holds):
    point = _overlapping().calibrate(ESCAPE_COST, max_overkill=0.2, max_escape=0.2, look_as=look_as)
    assert (point.threshold, point.ng_from) == (threshold, ng_from)
    assert [promise.holds for promise in point.promises] == holds
    assert "between 0.400 and 0.501 lie the scores of 2 of 18 validation pictures" in point.note
    assert ("LOOK, for a person" in point.note) == (look_as == "LOOK")


def test_nobody_looks_where_one_promise_would_be_kept_by_noise():
    calibrator = _see(*_levels("OK", *[100] * 9), *_levels("NG", 10, 10, *[900] * 7))
    point = calibrator.calibrate(ESCAPE_COST, max_overkill=0.1, max_escape=0.2, look_as="LOOK")
    assert (point.ng_from, point.note) == (None, "")
    assert 0.1 < point.threshold < 0.9


def test_no_promise_is_kept_by_a_threshold_within_the_noise():
    """One defective part in nine may escape: with a threshold of 0.006 none would."""
    calibrator = _see(*_levels("OK", *[2] * 9, 40), *_levels("NG", 6, *[900] * 9))
    point = calibrator.calibrate(ESCAPE_COST, max_overkill=0.2, max_escape=0.1, look_as="LOOK")
    assert 0.05 <= point.threshold < 0.9
    assert [promise.holds for promise in point.promises] == [False, True]


def test_it_is_said_why_the_threshold_lies_where_it_does():
    point = _see(*_levels("OK", 7, 2), *_levels("NG", 776, 900, 0)).calibrate(ESCAPE_COST)
    assert point.threshold == 0.231
    assert point.decided_by == (0.05, 0.776)
    assert point.why == (
        "From 0.050 (below, noise decides) to 0.776 every threshold does equally well on the validation "
        "pictures: 1 of 3 defective ones escape, 0 of 2 good ones are rejected. It lies 25 % of the way up, "
        "since an escape costs 3 overkills (escape_cost): new defects may be fainter than those seen, and "
        "good parts less clean."
    )


def test_where_all_may_be_wrong_nothing_is_promised():
    calibrator = _see(*_levels("OK", *[100] * 9), *_levels("NG", *[900] * 9))
    assert [p.rate for p in calibrator.calibrate(ESCAPE_COST, 0.2, 1.0).promises] == ["overkill"]


def test_a_threshold_that_keeps_both_promises_hugs_neither_side():
    """By cost alone it would lie below the good part at 650; both promises leave 0.651 to 0.9."""
    calibrator = _see(*_levels("OK", *[100] * 10, 650), *_levels("NG", 600, *[900] * 10))
    point = calibrator.calibrate(ESCAPE_COST, max_overkill=1 / 12, max_escape=2 / 12)
    assert 0.75 < point.threshold < 0.83
    assert "threshold, 0.225, does not keep both promises. Those from 0.651 to 0.900 do" in point.why
    assert point.decided_by == (0.651, 0.9)


def test_a_class_may_be_promised_more():
    calibrator = Calibrator(("dent", "stain"))
    for number, level in ((1, 500), (2, 900)):
        for _ in range(9):
            shown = score_map((5, 5, 5, 5, level))
            calibrator.see("NG", shown, truth=score_map((5, 5, 5, 5, number)).astype(np.uint8))
            calibrator.see("OK", score_map((5, 5, 5, 5, 700)))
    limits = {"max_overkill": 0.1, "max_escape": 0.6}
    loose = calibrator.calibrate(ESCAPE_COST, **limits)
    assert loose.threshold > 0.7
    strict = calibrator.calibrate(
        ESCAPE_COST, **limits, look_as="LOOK", max_escape_of={"dent": 0.1, "crack": 0.1}
    )
    assert (strict.threshold, strict.ng_from) == (0.5, 0.701)
    said = [str(promise) for promise in strict.promises]
    assert said[1] == (
        "Promised on average: at most 10 % of parts with dent are called OK, and with 95 % certainty "
        "at most 28.3 %, "
        "judged by 9 defective validation pictures with dent."
    )
    assert said[2].endswith("of parts with crack are called OK: no validation picture has it.")


def test_promises_are_told_in_parts_a_day():
    calibrator = _see(*_levels("OK", *[100] * 9), *_levels("NG", *[900] * 9))
    escape, overkill = calibrator.calibrate(
        ESCAPE_COST, max_overkill=0.1, max_escape=0.1, parts_per_day=2000
    ).promises
    assert str(escape).endswith("; were 1 % of 2,000 parts a day defective, that is at most 2 a day.")
    assert str(overkill).endswith("; of 2,000 parts a day that is at most 200.")
