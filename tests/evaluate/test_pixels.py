"""All pixels as two histograms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from defectline.components.evaluate.pixels import Pixels


def test_average_precision_by_hand():
    """Levels 900 (2 defective), 500 (1 good, 1 defective), 100 (1 good): precision 1, 1, 3/4."""
    pixels = Pixels()
    pixels.see(np.array([[900, 900, 500]], np.uint16), np.array([[1, 1, 1]], np.uint8))
    pixels.see(np.array([[500, 100]], np.uint16), np.array([[0, 0]], np.uint8))
    assert pixels.average_precision() == pytest.approx((1 + 1 + 3 / 4) / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=60))
def test_average_precision_is_that_of_scikit_learn(drawn):
    values = np.array([[level for level, _ in drawn]], np.uint16)
    truth = np.array([[bad for _, bad in drawn]], np.uint8)
    pixels = Pixels()
    pixels.see(values, truth)
    if truth.any():
        assert pixels.average_precision() == pytest.approx(average_precision_score(truth[0], values[0]))
    else:
        assert pixels.average_precision() is None


def test_reliability_by_hand():
    pixels = Pixels()
    pixels.see(np.array([[0, 50, 300, 300, 1000, 950]], np.uint16), np.array([[0, 0, 1, 0, 1, 1]], np.uint8))
    points = pixels.reliability()
    assert [(round(p.predicted, 3), p.observed, p.pixels) for p in points] == [
        (0.025, 0.0, 2),
        (0.3, 0.5, 2),
        (0.975, 1.0, 2),
    ]
