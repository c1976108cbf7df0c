"""The shapes of thin defects."""

import cv2
import numpy as np
import pytest

from defectline.components.common.synthetic.strokes import band, crack, fibre, scratch

SEEDS = range(30)


def width_of(drawn: np.ndarray) -> float:
    """Twice the largest distance to the ground, px."""
    return 2 * float(cv2.distanceTransform((drawn > 0.3).astype(np.uint8), cv2.DIST_L2, 5).max())


@pytest.mark.parametrize("shape", [scratch, fibre, crack])
def test_strokes_are_thin_and_of_many_widths(shape):
    drawn = [shape(np.random.default_rng(seed), 224, 600.0) for seed in SEEDS]
    widths = [width_of(one) for one in drawn]
    assert min(widths) < 3
    assert np.median(widths) < 10
    assert max(max(one.shape) for one in drawn) > 60


def test_some_scratches_are_interrupted_and_some_have_neighbours():
    pieces = [
        cv2.connectedComponents((scratch(np.random.default_rng(seed), 224, 600.0) > 0.2).astype(np.uint8))[0]
        for seed in SEEDS
    ]
    assert min(pieces) == 2
    assert max(pieces) > 3


def test_bands_are_straight_along_a_side():
    sides = set()
    for seed in SEEDS:
        drawn = band(np.random.default_rng(seed), 224, 600.0)
        sides.add(drawn.shape[0] > drawn.shape[1])
        # One profile, fainter towards the ends.
        assert np.linalg.matrix_rank(drawn.astype(np.float64), tol=1e-3) == 1
    assert sides == {True, False}
