"""Every rule can pass and can fail, on counts made by hand."""

import pytest
from counts import answers, counted

from defectline.components.evaluate.gate import ENOUGH, IOU_MARGIN, Rule, judge, passed
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.settings import EvaluateSettings

LIMITS = EvaluateSettings(min_iou=0.5, max_escape=0.1, max_overkill=0.1)
ANY = EvaluateSettings(min_iou=0, max_escape=1, max_overkill=1)
"""Absolute rules that every model passes."""


def _rules(challenger: list[Count], champion: list[Count] | None, note: str = "") -> dict[str, Rule]:
    return {rule.name: rule for rule in judge(challenger, champion, ANY, note)}


def _failed(challenger: list[Count], settings: EvaluateSettings = LIMITS) -> dict[str, str]:
    return {rule.name: rule.reason for rule in judge(challenger, None, settings) if not rule.passed}


def _both(bad: str, good: str) -> list[Count]:
    return [*answers("NG", bad), *answers("OK", good)]


GOOD = _both("r" * 20, "r" * 20)


# Absolute rules


def test_a_good_first_model_passes_and_the_rows_say_so():
    rules = judge(GOOD, None, LIMITS)
    assert passed(rules)
    assert [r.name for r in rules] == ["min_iou", "max_escape", "max_overkill", "champion"]
    assert [r.needed for r in rules] == ["≥ 0.500", "≤ 0.100", "≤ 0.100", "not worse"]
    assert rules[-1].reason == "there is no champion yet"


@pytest.mark.parametrize(
    ("challenger", "name", "got", "reason"),
    [
        ([counted("NG", "NG", tp=49, fn=51), counted("OK", "OK")], "min_iou", 0.49, "do not fit"),
        (_both("wwwrrrrrrrrrrrrrrrrr", "r"), "max_escape", 0.15, "defective parts pass"),
        (_both("r" * 20, "wwwrrrrrrrrrrrrrrrrr"), "max_overkill", 0.15, "are rejected"),
    ],
)
def test_each_absolute_rule_fails_alone(challenger, name, got, reason):
    failed = _failed(challenger)
    assert list(failed) == [name]
    assert reason in failed[name]
    assert {r.name: r.got for r in judge(challenger, None, LIMITS)}[name] == got


def test_the_limits_themselves_pass():
    challenger = [counted("NG", "NG", tp=2, fn=2)] * 9 + [counted("NG", "OK")] + _both("", "w" + "r" * 9)
    settings = EvaluateSettings(min_iou=18 / 136, max_escape=0.1, max_overkill=0.1)
    assert not _failed(challenger, settings)


def test_a_test_split_of_one_label_fails_the_rules_that_it_cannot_measure():
    good_only, bad_only = answers("OK", "rr"), answers("NG", "rr")
    assert _failed(good_only).keys() == {"min_iou", "max_escape"}
    assert _failed(bad_only).keys() == {"max_overkill"}
    assert set(_failed(good_only).values()) == {"there is no test picture to measure it on"}
    relative = _rules(good_only, good_only)
    assert [relative[f"champion_{what}"].passed for what in ("iou", "escape", "overkill")] == [
        False,
        False,
        True,
    ]


# Relative rules


@pytest.mark.parametrize("pictures", [4, ENOUGH, 100])
@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_a_challenger_that_answers_like_the_champion_passes(pictures, wrong):
    same = _both("w" * wrong + "r" * (pictures - wrong), "w" * wrong + "r" * (pictures - wrong))
    assert passed(judge(same, same, ANY))
    names = ["min_iou", "max_escape", "max_overkill", "champion_iou", "champion_escape", "champion_overkill"]
    assert [rule.name for rule in judge(same, same, ANY)] == names


@pytest.mark.parametrize(
    ("challenger", "champion", "ok", "got"),
    [
        # Fewer than 20: the difference itself.
        ("w" + "r" * 18, "r" * 19, False, 1 / 19),
        ("wr" + "r" * 17, "rw" + "r" * 17, True, 0.0),
        ("wrr" + "r" * 16, "rww" + "r" * 16, True, -1 / 19),
        # 20 and more: the upper bound of the difference, of at most 0.05.
        ("wr" + "r" * 18, "rw" + "r" * 18, False, 0.157),
        ("wrrr" + "r" * 36, "rwww" + "r" * 36, True, 0.042),
        ("w" + "r" * 99, "r" * 100, True, 0.044),
        ("ww" + "r" * 98, "r" * 100, False, 0.059),
    ],
)
def test_new_escapes_against_fixed_ones(challenger, champion, ok, got):
    good = answers("OK", "rrrr")
    rule = _rules(answers("NG", challenger) + good, answers("NG", champion) + good)["champion_escape"]
    assert rule.passed == ok
    assert rule.got == pytest.approx(got, abs=5e-4)
    new = sum(a == "w" and b == "r" for a, b in zip(challenger, champion, strict=True))
    fixed = sum(a == "r" and b == "w" for a, b in zip(challenger, champion, strict=True))
    assert rule.reason.startswith(f"{new} new and {fixed} fixed of {len(champion)}")


@pytest.mark.parametrize(
    ("challenger", "champion", "ok", "needed"),
    [
        ("w" + "r" * 9, "r" * 10, False, "≤ 0.000 (difference)"),
        ("wr" + "r" * 38, "rw" + "r" * 38, True, "≤ 0.100 (upper 95 % bound of the difference)"),
        ("ww" + "r" * 38, "r" * 40, False, "≤ 0.100 (upper 95 % bound of the difference)"),
        ("rr" + "r" * 38, "wr" + "r" * 38, True, "≤ 0.000 (difference)"),
    ],
)
def test_new_overkills_against_fixed_ones(challenger, champion, ok, needed):
    bad = answers("NG", "rrrr")
    rules = _rules(bad + answers("OK", challenger), bad + answers("OK", champion))
    assert rules["champion_overkill"].passed == ok
    assert rules["champion_overkill"].needed == needed
    assert rules["champion_escape"].passed


def _outlined(pictures: int, tp: int) -> list[Count]:
    """Defects of 100 px, of each of which `tp` were found."""
    return [counted("NG", "NG", tp=tp, fn=100 - tp, id=f"NG/{n}") for n in range(pictures)]


@pytest.mark.parametrize("pictures", [6, ENOUGH])
@pytest.mark.parametrize(("tp", "ok"), [(90, True), (86, True), (84, False)])
def test_outlines_may_fit_a_little_less(pictures, tp, ok):
    good = answers("OK", "rrrr")
    rule = _rules(_outlined(pictures, tp) + good, _outlined(pictures, 90) + good)["champion_iou"]
    assert rule.passed == ok
    assert rule.got == pytest.approx((tp - 90) / 100)
    assert ("bound" in rule.needed) == (pictures >= ENOUGH)
    assert f"{-IOU_MARGIN:.3f}" in rule.needed


def test_with_enough_pictures_an_iou_that_differs_by_chance_is_not_called_as_good():
    """Half of the outlines 20 points better, half 24 worse: -0.02 on average, but it could be -0.1."""
    uneven = [
        counted("NG", "NG", tp=80 if n % 2 else 36, fn=20 if n % 2 else 64, id=f"NG/{n}") for n in range(20)
    ]
    rule = _rules(uneven, _outlined(20, 60))["champion_iou"]
    assert rule.got < -IOU_MARGIN
    assert "IoU differs by -0.020" in rule.reason
    assert not rule.passed
    assert _rules(uneven[:18], _outlined(18, 60))["champion_iou"].passed


def test_only_the_pictures_that_the_champion_has_not_seen_are_compared():
    challenger = _both("wrrrrr", "rrrrrr")
    champion = [c for c in _both("rrrrrr", "rrrrrr") if c.id != "NG/0"]
    rules = _rules(challenger, champion, "it has seen one")
    assert rules["champion_escape"].passed
    assert rules["champion_escape"].reason.startswith("0 new and 0 fixed of 5")
    assert rules["champion_unseen"] == Rule(
        "champion_unseen", 11.0, "pictures to compare on", True, "it has seen one"
    )
    assert rules["max_escape"].got == pytest.approx(1 / 6)


def test_without_a_comparison_the_row_says_why():
    rules = judge(GOOD, None, LIMITS, "the champion v1 cannot be loaded")
    assert passed(rules)
    assert rules[-1] == Rule("champion", None, "not worse", True, "the champion v1 cannot be loaded")


def test_a_source_without_defects_is_judged_by_its_good_pictures():
    good = [count for count in GOOD if count.label == "OK"]
    rules = {rule.name: rule for rule in judge(good, good, LIMITS, judged=["OK"])}
    unknown = ("min_iou", "max_escape", "champion_iou", "champion_escape")
    assert all(rules[name].passed and rules[name].got is None for name in unknown)
    assert all("nobody knows how many defects escape" in rules[name].reason for name in unknown)
    assert rules["max_overkill"].got is not None
    assert rules["champion_overkill"].passed
    wrong = [count._replace(verdict="NG") for count in good]
    failed = [rule.name for rule in judge(wrong, good, LIMITS, judged=["OK"]) if not rule.passed]
    assert failed == ["max_overkill", "champion_overkill"]


# Without masks


def _unmasked(counts: list[Count], kept: int = 0) -> list[Count]:
    bad = [count for count in counts if count.label == "NG"]
    return [
        count._replace(masked=False, tp=0, fn=0, regions=(0, 0, 0), regions_hit=(0, 0, 0))
        if count in bad[kept:]
        else count
        for count in counts
    ]


def test_without_a_mask_no_rule_about_pixels_stops_a_challenger():
    counts = _unmasked(GOOD)
    rules = {rule.name: rule for rule in judge(counts, counts, LIMITS)}
    assert all(rule.passed for rule in rules.values())
    for name in ("min_iou", "champion_iou"):
        assert (rules[name].got, rules[name].reason) == (None, "cannot be judged: no masks")
    worse = _unmasked(_both("w" * 20, "r" * 20))
    assert {rule.name for rule in judge(worse, counts, LIMITS) if not rule.passed} == {
        "max_escape",
        "champion_escape",
    }


def test_with_some_masks_a_rule_about_pixels_says_over_how_many():
    counts = _unmasked(GOOD, kept=3)
    rules = {rule.name: rule for rule in judge(counts, counts, LIMITS)}
    over = "; over 3 of 20 defective pictures, the others have no mask"
    assert rules["min_iou"].reason.endswith(over)
    assert rules["champion_iou"].reason.endswith(over)
    assert rules["min_iou"].got == 1
    missed = _unmasked(_both("w" * 20, "r" * 20), kept=3)
    assert not {rule.name: rule for rule in judge(missed, None, LIMITS)}["min_iou"].passed
