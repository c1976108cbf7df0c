"""The shapes of broad defects, and what all shapes have in common."""

import numpy as np
import pytest

from defectline.components.common.synthetic.generator import AREA, BROAD, SHAPES


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [32, 224])
def test_a_shape_lies_in_its_box_and_is_of_0_to_1(shape, size: int):
    for seed in range(40):
        random = np.random.default_rng(seed)
        area = size**2 * AREA[0] * (AREA[1] / AREA[0]) ** random.random()
        drawn = shape(random, size, area)
        assert drawn.dtype == np.float32
        assert drawn.ndim == 2
        assert drawn.flags.c_contiguous
        assert drawn.min() >= 0
        assert drawn.max() <= 1.0001
        assert max(drawn.shape) <= 2 * size + 1 + 8
        again = np.random.default_rng(seed)
        again.random()
        assert np.array_equal(shape(again, size, area), drawn)


@pytest.mark.parametrize("shape", BROAD)
def test_a_broad_shape_ends_inside_of_its_box(shape):
    for seed in range(60):
        drawn = shape(np.random.default_rng(seed), 224, 1000.0)
        edge = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert edge.max() <= 0.25, seed


@pytest.mark.parametrize("shape", BROAD)
def test_areas_grow(shape):
    def mean(area: float) -> float:
        return float(
            np.mean([np.sum(shape(np.random.default_rng(seed), 224, area) > 0.5) for seed in range(30)])
        )

    small, large = mean(50), mean(2000)
    assert 4 < small < 150
    assert 8 * small < large < 4000
