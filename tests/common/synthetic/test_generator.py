"""Defects that are painted into good pictures."""

from collections import Counter

import cv2
import numpy as np
import pytest

from defectline.components.common.synthetic.generator import (
    BROAD,
    INTO_BROAD,
    INTO_THIN,
    LEAST_COUNTED_PX,
    MOST_COVERED,
    SHAPES,
    THIN,
    draw_kind,
    paint_defects,
)
from defectline.components.common.synthetic.visibility import change, limits


def good(size: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A rough surface with some structure."""
    random = np.random.default_rng([seed, size])
    rough = cv2.GaussianBlur(random.normal(0, 60, (size, size, channels)), (0, 0), 2).reshape(size, size, -1)
    stripes = 30 * np.sin(np.arange(size) / 3)[:, None, None]
    grain = random.normal(0, 3, (size, size, channels))
    return np.clip(110 + rough + stripes + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 33, 95, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_values_and_repetition(size: int, channels: int):
    picture, donor = good(size, channels), good(size, channels, seed=1)
    before = picture.copy(), donor.copy()
    for seed in range(20):
        painted, again = (paint_defects(picture, donor, np.random.default_rng(seed)) for _ in range(2))
        assert painted.picture.shape == (size, size, channels)
        assert painted.mask.shape == (size, size)
        assert painted.picture.dtype == painted.mask.dtype == np.uint8
        assert {1} <= set(np.unique(painted.mask)) <= {0, 1, 255}
        assert np.count_nonzero(painted.mask) <= MOST_COVERED * size**2
        assert all(np.array_equal(one, other) for one, other in zip(painted, again, strict=True))
    assert np.array_equal(picture, before[0])
    assert np.array_equal(donor, before[1])


@pytest.mark.parametrize("grey", [0, 3, 128, 255])
def test_plain_pictures_get_defects_too(grey: int):
    picture = np.full((64, 64, 1), grey, np.uint8)
    for seed in range(30):
        painted = paint_defects(picture, picture, np.random.default_rng(seed))
        assert np.any(painted.mask == 1)


def test_nothing_changes_where_nothing_counts():
    picture = good(96)
    counts = np.zeros((96, 96), np.uint8)
    cv2.circle(counts, (40, 50), 20, 1, -1)
    for seed in range(60):
        painted = paint_defects(picture, picture, np.random.default_rng(seed), counts)
        assert np.any(painted.mask == 1)
        assert np.count_nonzero(painted.mask) <= MOST_COVERED * np.count_nonzero(counts)
        assert not np.any(painted.mask[counts == 0])
        assert np.array_equal(painted.picture[counts == 0], picture[counts == 0])


def test_where_almost_nothing_counts_the_picture_stays():
    picture = good(64)
    for count in (0, LEAST_COUNTED_PX - 1):
        counts = np.zeros((64, 64), np.uint8)
        counts.ravel()[:count] = 1
        painted = paint_defects(picture, picture, np.random.default_rng(0), counts)
        assert np.array_equal(painted.picture, picture)
        assert not painted.mask.any()


def test_every_kind_is_drawn_about_as_often_as_it_should():
    random = np.random.default_rng(0)
    kinds = [draw_kind(random) for _ in range(4000)]
    shapes = Counter(shape for shape, _ in kinds)
    total = sum(SHAPES.values())
    assert set(shapes) == set(SHAPES)
    assert all(abs(shapes[shape] / 4000 - weight / total) < 0.03 for shape, weight in SHAPES.items())
    assert {filling for shape, filling in kinds if shape in THIN} == set(INTO_THIN)
    assert {filling for shape, filling in kinds if shape in BROAD} == set(INTO_BROAD)


def test_sizes_and_strengths_spread_over_orders_of_magnitude():
    picture = good(128)
    limit = limits(picture).fine
    areas, strengths = [], []
    for seed in range(150):
        painted = paint_defects(picture, picture, np.random.default_rng(seed))
        marked = painted.mask == 1
        areas.append(marked.mean())
        strengths.append((change(picture, painted.picture) / limit)[marked].max())
    assert np.percentile(areas, 10) < 0.003
    assert np.percentile(areas, 95) > 0.04
    assert np.percentile(strengths, 10) < 2
    assert np.percentile(strengths, 90) > 6


def test_a_grey_picture_of_three_channels_stays_grey_and_a_coloured_one_gets_tints():
    grey, coloured = np.repeat(good(96), 3, axis=2), good(96, 3)
    tinted = 0
    for seed in range(20):
        painted = paint_defects(grey, coloured, np.random.default_rng(seed)).picture
        assert np.all(painted == painted[..., :1])
        change_of = paint_defects(coloured, grey, np.random.default_rng(seed)).picture.astype(int) - coloured
        tinted += bool(np.abs(change_of - change_of[..., :1]).max() > 10)
    assert tinted > 5


def test_pictures_need_not_be_square_nor_the_donor_of_the_same_size():
    picture, donor = good(120)[:40], good(64)
    for seed in range(20):
        painted = paint_defects(picture, donor, np.random.default_rng(seed))
        assert painted.picture.shape == (40, 120, 1)
        assert np.any(painted.mask == 1)
