"""What a mask says of a change: compared with the change itself."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectline.components.common.synthetic.generator import paint_defects
from defectline.components.common.synthetic.visibility import DOUBTFUL, LEAST, MOST, change, limits, seen

NOWHERE = np.zeros((96, 96), np.uint8)


def noisy(spread: float, channels: int = 1) -> np.ndarray:
    grey = np.random.default_rng(0).normal(120, spread, (96, 96, channels))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(32, 100),
    st.sampled_from([1, 3]),
    st.floats(0, 60),
    st.floats(0, 30),
    st.floats(0, 255),
)
def test_the_mask_agrees_with_the_change(seed, size, channels, structure, grain, grey):
    random = np.random.default_rng(seed)
    hills = cv2.GaussianBlur(random.normal(0, 4 * structure, (2 * size, size * channels)), (0, 0), 2)
    both = hills.reshape(2, size, size, channels) + random.normal(grey, grain, (2, size, size, channels))
    picture, donor = np.clip(both, 0, 255).astype(np.uint8)
    painted = paint_defects(picture, donor, random)
    changed, limit = change(picture, painted.picture), limits(picture).fine
    assert np.all(changed[painted.mask == 1] >= DOUBTFUL * limit[painted.mask == 1])
    assert np.all(changed[painted.mask == 0] < DOUBTFUL * limit[painted.mask == 0])
    # The rim is nobody's.
    rim = cv2.dilate((painted.mask == 1).astype(np.uint8), np.ones((3, 3), np.uint8))
    assert not np.any(painted.mask[rim == 1] == 0)


def test_limits_grow_with_noise():
    means = [float(limits(noisy(spread)).fine.mean()) for spread in (0, 2, 5, 10, 60)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(LEAST, abs=0.6)
    assert means[2] == pytest.approx(LEAST + 2.5 * 5 * 0.9, rel=0.2)
    assert means[-1] == MOST


def test_bright_points_hide_what_is_on_them_but_not_between_them():
    lattice = np.full((96, 96), 5.0)
    lattice[8::16, 8::16] = 3000
    lattice = np.clip(cv2.GaussianBlur(lattice, (0, 0), 1.5), 0, 255).astype(np.uint8)[..., None]
    limit = limits(lattice).fine
    assert limit[8, 8] > 1.5 * limit[16, 16]
    assert limit[16, 16] < 8


@pytest.mark.parametrize(("amount", "marked"), [(1, {0}), (8, {0, 255}), (40, {0, 1, 255})])
def test_a_dot_is_seen_by_its_contrast(amount: int, marked: set[int]):
    picture = noisy(2)
    after = picture.copy()
    after[40:44, 40:44] += np.uint8(amount)
    assert set(np.unique(seen(picture, after, limits(picture), NOWHERE))) == marked


def test_an_even_stain_is_seen_in_noise_that_hides_a_dot():
    picture = noisy(12)
    stain, dot = picture.copy(), picture.copy()
    stain[30:70, 30:70] += 28
    dot[40:43, 40:43] += 28
    limit = limits(picture)
    assert np.mean(seen(picture, stain, limit, NOWHERE)[35:65, 35:65] == 1) > 0.9
    assert not np.any(seen(picture, dot, limit, NOWHERE) == 1)


def test_wide_gaps_are_in_doubt_within_an_outline_only():
    picture = noisy(0)
    after = picture.copy()
    after[40:44, [40, 41, 52, 53]] += 60
    outline = NOWHERE.copy()
    outline[36:48, 36:58] = 1
    limit = limits(picture)
    assert seen(picture, after, limit, NOWHERE)[42, 47] == 0
    assert seen(picture, after, limit, outline)[42, 47] == 255
    assert not seen(picture, picture, limit, outline).any()
