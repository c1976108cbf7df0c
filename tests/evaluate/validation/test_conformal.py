"""What can be promised, in factories whose scores are drawn."""

import numpy as np
import pytest

from defectline.components.common.inference.inspection import LEVELS
from defectline.components.evaluate.validation.conformal import certain_rate, highest_ok, lowest_ng


@pytest.mark.parametrize("count", [10, 30, 100, 1000])
@pytest.mark.parametrize("at_most", [0.02, 0.05, 0.1, 0.3])
def test_what_is_promised_holds_in_a_thousand_factories(count: int, at_most: float):
    """Each calibrates with other parts, and then makes many more: on average no more of those are wrong."""
    random = np.random.default_rng([count, int(100 * at_most)])
    escapes, overkills, promised = [], [], 0
    certain = certain_rate(count, at_most)
    for _ in range(1000):
        defective = np.clip(random.normal(700, 200, count + 1000), 0, LEVELS).astype(np.int64)
        good = np.clip(random.gamma(1.5, 120, count + 1000), 0, LEVELS).astype(np.int64)
        ok_below, ng_from = highest_ok(defective[:count], at_most), lowest_ng(good[:count], at_most)
        assert (ok_below is None) == (ng_from is None) == (certain is None) == (at_most < 1 / (count + 1))
        if ok_below is None or ng_from is None:
            continue
        promised += 1
        escapes.append(np.mean(defective[count:] < ok_below))
        overkills.append(np.mean(good[count:] >= ng_from))
    if promised:
        # The mean of 1,000 factories is known to a few thousandths.
        assert np.mean(escapes) <= at_most + 0.005
        assert np.mean(overkills) <= at_most + 0.005
        # With the certainty that is stated: of 1,000 draws, 5 % give or take three standard deviations.
        assert np.mean(np.array(escapes) > certain + 0.02) <= 0.05 + 0.021
        assert np.mean(np.array(overkills) > certain + 0.02) <= 0.05 + 0.021
        # And not by promising next to nothing.
        assert np.mean(escapes) >= at_most - 1 / (count + 1) - 0.02


def test_too_few_pictures_promise_nothing():
    scores = np.arange(10) * 100
    assert highest_ok(scores, 0.09) is None
    assert highest_ok(scores, 1 / 11) == 0
    assert highest_ok(scores, 0.2) == 100
    assert highest_ok(scores, 1.0) == LEVELS
    assert lowest_ng(scores, 0.09) is None
    assert lowest_ng(scores, 1 / 11) == 901
    assert lowest_ng(scores, 0.2) == 801
    assert lowest_ng(scores, 1.0) == 0
    # 0.1 * 10 in floating point is no reason to promise less.
    assert highest_ok(np.arange(9), 0.1) == 0


@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize("at_most", [0.05, 0.1, 0.3])
def test_it_holds_where_parts_have_several_pictures_that_are_alike(count: int, at_most: float):
    """From one to eight of each part; the same scores, taken one by one, promise too much."""
    random = np.random.default_rng([count, int(100 * at_most), 1])
    certain = certain_rate(count, at_most, several=True)
    escapes, overkills, one_by_one, held = [], [], [], []
    for _ in range(1000):
        pictures = random.integers(1, 9, count + 1000)
        parts = np.repeat(np.arange(count + 1000), pictures)
        # Clear defects are photographed more often; pictures of a part are nearly the same.
        faint = 60 * (9 - pictures)
        bad = np.clip(np.repeat(random.normal(950 - faint, 150), pictures), 0, LEVELS)
        bad = np.clip(bad + random.normal(0, 20, len(bad)), 0, LEVELS).astype(np.int64)
        good = LEVELS - bad
        seen = parts < count
        ok_below, ng_from = (
            choose(scores[seen], at_most, parts[seen])
            for choose, scores in ((highest_ok, bad), (lowest_ng, good))
        )
        assert (ok_below is None) == (ng_from is None) == (certain is None) == (at_most < 1 / (count + 1))
        if ok_below is None or ng_from is None:
            continue

        def rate(wrong: np.ndarray, rest: np.ndarray = ~seen, of: np.ndarray = pictures[count:]) -> float:
            return float(np.mean(np.add.reduceat(wrong[rest], np.cumsum(of) - of) / of))

        escapes.append(rate(bad < ok_below))
        overkills.append(rate(good >= ng_from))
        held.append(escapes[-1] <= certain)
        level, as_if = highest_ok(bad[seen], at_most), certain_rate(int(seen.sum()), at_most)
        assert level is not None
        assert as_if is not None
        one_by_one.append(rate(bad < level) <= as_if)
    if escapes:
        assert np.mean(escapes) <= at_most + 0.005
        assert np.mean(overkills) <= at_most + 0.005
        assert np.mean(held) >= 0.95
        # And not by promising next to nothing.
        assert np.mean(escapes) >= at_most - 1 / (count + 1) - 0.02
        assert np.mean(one_by_one) < 0.95


def test_a_part_is_wrong_by_the_share_of_its_pictures():
    scores, parts = np.array([100, 200, 300, 400, 500, 600]), np.array([0, 0, 0, 0, 1, 2])
    # Three parts, of which 0.35 * 4 - 1 = 0.4 may be wrong: one picture of four.
    assert highest_ok(scores, 0.35, parts) == 200
    assert lowest_ng(LEVELS - scores, 0.35, parts) == LEVELS - 200 + 1
    assert highest_ok(scores, 0.24, parts) is None


def test_a_picture_that_scores_nothing_is_not_rejected_at_the_lowest_level():
    assert lowest_ng(np.zeros(10, np.int64), 0.2) == 1
