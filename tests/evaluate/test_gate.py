"""Every rule can pass and can fail, on counts made by hand."""

import numpy as np
import pytest
from counts import answers, counted

from defectline.components.evaluate.classes import ClassCounts
from defectline.components.evaluate.gate import ENOUGH, IOU_MARGIN, Opponent, Rule, judge, kept, passed
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.settings import EvaluateSettings

LIMITS = EvaluateSettings(min_iou=0.5, max_escape=0.1, max_overkill=0.1)
ANY = EvaluateSettings(min_iou=0, max_escape=1, max_overkill=1)
"""Absolute rules that every model passes."""


def _rules(challenger: list[Count], champion: list[Count] | None, note: str = "") -> dict[str, Rule]:
    opponent = champion and Opponent(champion)
    return {rule.name: rule for rule in judge(challenger, opponent or None, ANY, note)}


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
    assert rules[-1].reason == "there was no champion"


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
    assert not _rules(good_only, good_only)["champion_iou"].passed


# Relative rules


@pytest.mark.parametrize("pictures", [ENOUGH, 100])
@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_a_challenger_that_answers_like_the_champion_passes(pictures, wrong):
    """A night with new pictures, of which there are enough to judge by."""
    same = _both("w" * wrong + "r" * (pictures - wrong), "w" * wrong + "r" * (pictures - wrong))
    rules = judge(same, Opponent(same), ANY)
    assert passed(rules)
    names = ["min_iou", "max_escape", "max_overkill", "champion_iou", "champion_escape", "champion_overkill"]
    assert [rule.name for rule in rules] == names


@pytest.mark.parametrize(
    ("challenger", "champion", "ok", "got"),
    [
        ("wr" + "r" * 18, "rw" + "r" * 18, False, 0.157),
        ("wrrr" + "r" * 36, "rwww" + "r" * 36, True, 0.042),
        ("w" + "r" * 99, "r" * 100, True, 0.044),
        ("ww" + "r" * 98, "r" * 100, False, 0.059),
        # Without a new one, no bound.
        ("r" + "r" * 19, "w" + "r" * 19, True, -0.05),
    ],
)
def test_new_escapes_against_fixed_ones(challenger, champion, ok, got):
    good = answers("OK", "r" * ENOUGH)
    rule = _rules(answers("NG", challenger) + good, answers("NG", champion) + good)["champion_escape"]
    assert rule.passed == ok
    assert rule.got == pytest.approx(got, abs=5e-4)
    new = sum(a == "w" and b == "r" for a, b in zip(challenger, champion, strict=True))
    fixed = sum(a == "r" and b == "w" for a, b in zip(challenger, champion, strict=True))
    assert rule.reason.startswith(f"{new} new and {fixed} fixed of {len(champion)}")


@pytest.mark.parametrize(
    ("challenger", "champion", "ok", "needed"),
    [
        ("wr" + "r" * 38, "rw" + "r" * 38, True, "≤ 0.100 (upper 95 % bound of the difference)"),
        ("ww" + "r" * 38, "r" * 40, False, "≤ 0.100 (upper 95 % bound of the difference)"),
        ("rr" + "r" * 38, "wr" + "r" * 38, True, "≤ 0.000 (difference)"),
    ],
)
def test_new_overkills_against_fixed_ones(challenger, champion, ok, needed):
    bad = answers("NG", "r" * ENOUGH)
    rules = _rules(bad + answers("OK", challenger), bad + answers("OK", champion))
    assert rules["champion_overkill"].passed == ok
    assert rules["champion_overkill"].needed == needed
    assert rules["champion_escape"].passed


# Few pictures, or the champion's: better, not just not worse

SAME = "the same verdicts as the champion"


@pytest.mark.parametrize(
    ("bad", "good", "got", "reason"),
    [
        # Eleven parts: the champion let one through, the challenger rejects a good one.
        (("r" * 11, "w" + "r" * 10), ("w" + "r" * 10, "r" * 11), -2, "1 fixed escape, 1 new overkill"),
        (("w" + "r" * 10, "r" * 11), ("r" * 11, "w" + "r" * 10), 2, "1 new escape, 1 fixed overkill"),
        (("r" * 11, "r" * 11), ("rr", "wr"), -1, "1 fixed overkill"),
        (("wr", "rw"), ("r", "r"), 0, "1 new escape, 1 fixed escape"),
        (("r" * 11, "r" * 11), ("r" * 11, "r" * 11), 0, SAME),
        # Enough bad ones alone say nothing of the good ones.
        (("r" * 30, "w" + "r" * 29), ("wrr", "rrr"), -2, "1 fixed escape, 1 new overkill"),
    ],
)
def test_with_few_pictures_the_cost_of_wrong_verdicts_decides(bad, good, got, reason):
    challenger, champion = _both(bad[0], good[0]), _both(bad[1], good[1])
    rules = _rules(challenger, champion)
    rule = rules["champion_cost"]
    assert {"champion_escape", "champion_overkill"}.isdisjoint(rules)
    assert (rule.got, rule.passed) == (got, got < 0)
    assert rule.reason.startswith(f"{reason}, which costs " if reason != SAME else SAME)
    # As good ends with the champion kept, worse with a refusal.
    assert kept([rule]) == (got == 0)


def test_a_class_that_must_not_escape_costs_more():
    settings = EvaluateSettings(min_iou=0, max_escape=1, max_overkill=1, by_class="escape_cost.crack=20")
    classes, per_class = ("dust", "crack"), ClassCounts((0, 0), (0, 0), (0, 1), ())
    champion = _both("wr", "r" * 12)
    challenger = _both("rr", "w" * 11 + "r")
    for cracked, ok in ((False, False), (True, True)):
        named = per_class if cracked else per_class._replace(fn=(1, 0))
        sides = [
            [c._replace(classes=named) if c.label == "NG" else c for c in counts]
            for counts in (challenger, champion)
        ]
        rules = judge(sides[0], Opponent(sides[1]), settings, classes=classes)
        rule = {each.name: each for each in rules}["champion_cost"]
        assert rule.passed == ok, rule


def _again(challenger: list[Count], champion: list[Count], settings: EvaluateSettings = ANY) -> list[Rule]:
    """The rules of a second run on the champion's pictures."""
    return judge(challenger, Opponent(champion, again=True), settings)


def test_a_second_run_on_the_same_pictures_must_be_better():
    """Nights without a new picture: a seed draws outlines a little worse, another a little better."""
    good = answers("OK", "r" * 30)
    for pictures, tp, ok in (
        (30, 80, False),
        (30, 86, False),
        (30, 90, False),
        (30, 93, True),
        (6, 90, False),
    ):
        rules = _again(_outlined(pictures, tp) + good, _outlined(pictures, 90) + good)
        assert [rule.name for rule in rules][3:] == ["champion_iou", "champion_better"]
        assert (passed(rules), kept(rules)) == (ok, not ok), (pictures, tp)
    rules = _again(_both("w" + "r" * 29, "r" * 30), _both("r" * 30, "r" * 30))
    assert kept(rules)
    assert rules[-1].reason == "1 new escape, which costs 3 more than the champion"
    assert passed(_again(_both("r" * 30, "r" * 30), _both("w" + "r" * 29, "r" * 30)))
    # A find more does not make up for outlines that fit much worse.
    good = answers("OK", "r" * 30)
    missed = [count._replace(verdict="OK") if count.id == "NG/0" else count for count in _outlined(30, 90)]
    rules = _again(_outlined(30, 70) + good, missed + good)
    assert [rule.name for rule in rules if not rule.passed] == ["champion_iou"]
    assert kept(rules)


def test_a_challenger_that_fails_more_than_to_be_better_is_refused():
    same = _both("w" * 10 + "r" * 10, "r" * 20)
    rules = _again(same, same, LIMITS)
    assert not passed(rules)
    assert not kept(rules)
    assert not kept(judge(GOOD, None, LIMITS))


def test_as_good_may_be_enough():
    either = ANY.model_copy(update={"replace": "not_worse"})
    for pictures in (6, 30):
        same = _both("r" * pictures, "r" * pictures)
        assert passed(_again(same, same, either))
    worse = judge(_both("wr", "rr"), Opponent(_both("rr", "rr")), either)
    assert not passed(worse)
    assert not kept(worse)


def test_other_settings_on_the_same_pictures_need_not_be_better():
    """Somebody wants grades, or a lighter decoder: as good is enough, worse is not."""
    few = _both("r" * 6, "r" * 6)
    assert passed(judge(few, Opponent(few, other_settings=True), ANY))
    assert not passed(judge(_both("w" + "r" * 5, "r" * 6), Opponent(few, other_settings=True), ANY))
    many = Opponent(_outlined(30, 90) + answers("OK", "r" * 30), other_settings=True)
    for tp, ok in ((87, True), (80, False)):
        assert passed(judge(_outlined(30, tp) + answers("OK", "r" * 30), many, ANY)) == ok


def test_a_year_of_nights_loses_no_more_than_one_margin():
    """Each night the outlines of a challenger are a little worse than those of the champion, at random."""
    random = np.random.default_rng(0)
    good = answers("OK", "r" * 30)
    reference = champion = 90
    for _ in range(365):
        challenger = champion + int(random.integers(-6, 4))
        counts = _outlined(30, challenger) + good
        if passed(judge(counts, Opponent(_outlined(30, reference) + good), ANY)):
            champion = challenger
            reference = max(reference, champion)
        assert champion >= reference - 100 * IOU_MARGIN
    assert champion >= 90 - 100 * IOU_MARGIN


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
    assert rules["champion_cost"].reason.startswith("the same verdicts")
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
    rules = {rule.name: rule for rule in judge(good, Opponent(good), LIMITS, judged=["OK"])}
    unknown = ("min_iou", "max_escape", "champion_iou", "champion_escape")
    assert all(rules[name].passed and rules[name].got is None for name in unknown)
    assert all("nobody knows how many defects escape" in rules[name].reason for name in unknown)
    assert rules["max_overkill"].got is not None
    assert rules["champion_overkill"].passed
    wrong = [count._replace(verdict="NG") for count in good]
    failed = [rule.name for rule in judge(wrong, Opponent(good), LIMITS, judged=["OK"]) if not rule.passed]
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
    rules = {rule.name: rule for rule in judge(counts, Opponent(counts), LIMITS)}
    assert all(rule.passed for rule in rules.values())
    for name in ("min_iou", "champion_iou"):
        assert (rules[name].got, rules[name].reason) == (None, "cannot be judged: no masks")
    worse = _unmasked(_both("w" * 20, "r" * 20))
    assert {rule.name for rule in judge(worse, Opponent(counts), LIMITS) if not rule.passed} == {
        "max_escape",
        "champion_escape",
    }


def test_with_some_masks_a_rule_about_pixels_says_over_how_many():
    counts = _unmasked(GOOD, kept=3)
    rules = {rule.name: rule for rule in judge(counts, Opponent(counts), LIMITS)}
    over = "; over 3 of 20 defective pictures, the others have no mask"
    assert rules["min_iou"].reason.endswith(over)
    assert rules["champion_iou"].reason.endswith(over)
    assert rules["min_iou"].got == 1
    missed = _unmasked(_both("w" * 20, "r" * 20), kept=3)
    assert not {rule.name: rule for rule in judge(missed, None, LIMITS)}["min_iou"].passed


def _looked_at(counts: list[Count], *ids: str) -> list[Count]:
    return [count._replace(verdict="LOOK") if count.id in ids else count for count in counts]


def test_a_model_that_sends_everything_to_a_person_is_refused():
    counts = _both("r" * 10, "r" * 10)
    names = [rule.name for rule in judge(counts, None, LIMITS)]
    assert "max_look" not in names
    for looks, ok in ((2, True), (3, False)):
        sent = _looked_at(counts, *[f"NG/{number}" for number in range(looks)])
        rule = {each.name: each for each in judge(sent, None, LIMITS)}["max_look"]
        assert (rule.got, rule.passed) == (looks / 20, ok)
    assert rule.reason == "too many parts would have to be looked at by a person"


@pytest.mark.parametrize(
    ("new", "old", "ok", "reason"),
    [
        # A part that a person looks at costs less than one that escapes, and more than none.
        (["NG/0"], [], True, "1 fixed escape, 1 to look at for 0, which costs 2.8 less than the champion"),
        ([], ["NG/1"], False, "1 new escape, 0 to look at for 1, which costs 2.8 more than the champion"),
        (["OK/0"], [], False, "1 to look at for 0, which costs 0.2 more than the champion"),
        ([], ["OK/0", "OK/1"], True, "0 to look at for 2, which costs 0.4 less than the champion"),
    ],
)
def test_what_people_have_to_look_at_costs_something(new, old, ok, reason):
    first = {"champion": "w" if "fixed" in reason else "r", "challenger": "w" if "new" in reason else "r"}
    champion = _looked_at(_both(first["champion"] + "r" * 9, "r" * 10), *old)
    challenger = _looked_at(_both(first["challenger"] + "r" * 9, "r" * 10), *new)
    rule = _rules(challenger, champion)["champion_cost"]
    assert (rule.passed, rule.reason) == (ok, reason)


def test_good_pictures_alone_do_not_let_a_network_pass_that_learned_nothing():
    """No defective picture is there to show it: a plant that begins with good parts would ship everything."""
    good = answers("OK", "r" * 30)
    assert passed(judge(good, None, LIMITS, judged=["OK"]))
    (failed,) = [r for r in judge(good, None, LIMITS, judged=["OK"], learned=False) if not r.passed]
    assert (failed.name, "did not begin to learn" in failed.reason) == ("learned", True)
    # With defective ones the rules of escapes and outlines say it.
    assert "learned" not in {r.name for r in judge(GOOD, None, LIMITS, learned=False)}
