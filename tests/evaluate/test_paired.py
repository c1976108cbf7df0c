"""Is one model worse than another on the same pictures?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectline.components.evaluate.paired import iou_difference, lower_iou_difference, upper_difference


@pytest.mark.parametrize(
    ("new", "fixed", "of", "confidence", "bound"),
    [
        # Two disinfections of contact lenses, 44 pairs: 90 % interval -0.096 to 0.037 (Tango 1998).
        (0, 1, 44, 0.95, 0.037),
        (1, 0, 44, 0.95, 0.096),
        # Airways before and after a transplant, 21 pairs: 95 % interval -0.517 to -0.026 (Fagerland 2014).
        (1, 7, 21, 0.975, -0.026),
        (7, 1, 21, 0.975, 0.517),
    ],
)
def test_the_bound_of_a_paired_difference_is_the_published_one(new, fixed, of, confidence, bound):
    assert round(upper_difference(new, fixed, of, confidence), 3) == bound


@given(st.integers(1, 60), st.data())
def test_the_bound_lies_above_the_difference_and_grows_with_new_errors(of, data):
    new = data.draw(st.integers(0, of))
    fixed = data.draw(st.integers(0, of - new))
    bound = upper_difference(new, fixed, of)
    assert (new - fixed) / of <= bound <= 1
    if new + fixed < of:
        assert upper_difference(new + 1, fixed, of) > bound


def test_without_any_change_the_bound_is_that_of_a_rate_never_seen():
    """z² / (n + z²), Wilson's upper bound of 0 of n."""
    assert upper_difference(0, 0, 20) == pytest.approx(1.644854**2 / (20 + 1.644854**2), abs=1e-6)


def test_differences_of_iou():
    rows = np.array([[(8, 1, 1), (6, 2, 2)], [(0, 0, 0), (0, 10, 0)]])
    assert iou_difference(rows) == pytest.approx(8 / 10 - 6 / 20)
    assert iou_difference(np.zeros((2, 2, 3), np.int64)) is None
    same = np.repeat(np.random.default_rng(0).integers(1, 99, (30, 1, 3)), 2, axis=1)
    assert lower_iou_difference(same) == 0
    worse = same.copy()
    worse[:, 0, 0] //= 2
    assert lower_iou_difference(worse) < iou_difference(worse) < 0
    assert lower_iou_difference(worse) == lower_iou_difference(worse)
