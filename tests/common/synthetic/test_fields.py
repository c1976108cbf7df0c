"""Smooth noise and the fill of holes."""

import numpy as np
import pytest

from defectline.components.common.synthetic.fields import angle, blurred, filled, log_uniform, smooth_noise


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (64, 64), (121, 33)])
@pytest.mark.parametrize(("cell", "octaves", "aspect"), [(1, 1, 1), (7, 3, 0.1), (500, 2, 10)])
def test_smooth_noise_has_mean_0_and_spread_1(shape, cell, octaves, aspect):
    hills = smooth_noise(np.random.default_rng(0), shape, cell, octaves, aspect)
    assert hills.shape == shape
    assert hills.dtype == np.float32
    assert abs(hills.mean()) < 0.01
    if hills.size > 1:
        assert hills.std() == pytest.approx(1, abs=0.01)


def test_wide_cells_are_smoother_and_an_aspect_draws_them_out():
    steps = {}
    for cell, aspect in ((2, 1), (16, 1), (8, 8)):
        hills = smooth_noise(np.random.default_rng(0), (128, 128), cell, 1, aspect)
        steps[cell] = np.abs(np.diff(hills, axis=0)).mean(), np.abs(np.diff(hills, axis=1)).mean()
    assert steps[16][0] < steps[2][0] / 2
    assert steps[8][1] < steps[8][0] / 2


def test_a_hole_is_filled_as_its_surroundings_go_on():
    y, x = np.mgrid[:60, :60].astype(np.float32)
    slope = np.stack([2 * y + x, 100 - y], axis=2)
    known = np.ones((60, 60), np.float32)
    known[20:40, 25:45] = 0
    again = filled(np.where(known[..., None] > 0, slope, 0), known)
    assert np.abs(again - slope).max() < 12
    assert np.array_equal(again[known == 1], slope[known == 1])


def test_nothing_known_is_filled_with_nothing():
    assert not filled(np.ones((9, 5, 1), np.float32), np.zeros((9, 5), np.float32)).any()


def test_draws_over_orders_of_magnitude():
    random = np.random.default_rng(0)
    drawn = np.array([log_uniform(random, 0.01, 100) for _ in range(2000)])
    assert drawn.min() >= 0.01
    assert drawn.max() <= 100
    assert np.mean(drawn < 1) == pytest.approx(0.5, abs=0.05)
    assert log_uniform(random, 3, 2) == 3


def test_many_angles_lie_along_a_side():
    random = np.random.default_rng(0)
    off = np.array([angle(random) for _ in range(2000)]) % (np.pi / 2)
    along = np.minimum(off, np.pi / 2 - off) < 0.12
    assert 0.4 < along.mean() < 0.65


def test_a_blur_keeps_shape_and_sum():
    spot = np.zeros((41, 31, 1), np.float32)
    spot[20, 15] = 1
    soft = blurred(spot, 2, 0.5)
    assert soft.shape == spot.shape
    assert soft.sum() == pytest.approx(1, abs=1e-3)
    assert soft[20, 18] > soft[23, 15]
