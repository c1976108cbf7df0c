"""What defects do to the picture inside of their shape."""

import cv2
import numpy as np
import pytest

from defectline.components.common.synthetic import fillings
from defectline.components.common.synthetic.fillings import Site
from defectline.components.common.synthetic.generator import INTO_BROAD


def site(channels: int = 1, strength: float = 40) -> Site:
    """A disc on a picture of light points."""
    grey = np.full((96, 96, channels), 60.0)
    grey[4::8, 4::8] = 2000
    picture = np.clip(cv2.GaussianBlur(grey, (0, 0), 1), 0, 255).astype(np.uint8).reshape(96, 96, channels)
    disc = np.zeros((40, 40), np.float32)
    cv2.circle(disc, (20, 20), 15, 1, -1)
    return Site(picture, picture[::-1].copy(), 30, 20, disc, strength)


@pytest.mark.parametrize("filling", INTO_BROAD)
@pytest.mark.parametrize("channels", [1, 3])
def test_changes_have_the_shape_of_the_box_and_repeat(filling, channels: int):
    where = site(channels)
    before = where.picture.copy()
    largest = 0.0
    for seed in range(15):
        change, again = (filling(np.random.default_rng(seed), where) for _ in range(2))
        assert change.shape == (40, 40, channels)
        assert change.dtype == np.float32
        assert np.isfinite(change).all()
        assert np.array_equal(change, again)
        if filling is not fillings.relief:
            assert np.abs(change[where.shape == 0]).max() < 1e-3
        largest = max(largest, float(np.abs(change).max()))
    assert largest > 15
    assert np.array_equal(where.picture, before)


def spread(filling, **changed) -> float:
    """The mean spread of grey levels in the middle of the disc after the filling, in units of before."""
    where = site()._replace(**changed)
    middle = slice(10, 30)
    after = [(where.here + filling(np.random.default_rng(n), where))[middle, middle].std() for n in range(10)]
    return float(np.mean(after) / where.here[middle, middle].std())


def test_what_is_missing_or_blurred_has_less_structure():
    assert spread(fillings.missing) < 0.7
    assert spread(fillings.blur) < 0.8


def test_the_tone_goes_by_the_strength_and_both_ways():
    means = [
        fillings.tone(np.random.default_rng(seed), site(strength=20))[20, 20].mean() for seed in range(40)
    ]
    assert min(means) < -5
    assert max(means) > 5
    assert np.median(np.abs(means)) == pytest.approx(20, rel=0.5)


def test_a_graft_fits_its_surroundings_better_than_a_patch():
    slope = np.repeat(np.arange(40, 232, 2, np.uint8)[None], 96, axis=0)[..., None].copy()
    where = site()._replace(picture=slope, donor=slope, strength=0)
    at_edge = (where.shape > 0) & (cv2.erode(where.shape, np.ones((3, 3))) == 0)
    steps = {
        filling: np.mean(
            [np.abs(filling(np.random.default_rng(seed), where)[at_edge]).mean() for seed in range(10)]
        )
        for filling in (fillings.grafted, fillings.patch)
    }
    assert steps[fillings.grafted] < steps[fillings.patch] / 3


def test_what_is_moved_comes_from_there():
    where = site()
    there = where.moved(7, -3)
    assert np.array_equal(there, where.picture[27:67, 27:67].astype(np.float32))
    turned = where.moved(0, 0, turn=np.pi)
    assert np.abs(turned - where.here[::-1, ::-1]).max() <= 1
