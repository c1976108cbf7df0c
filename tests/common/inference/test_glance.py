"""A first look at half resolution: what it suspects, and what it says of the rest."""

import numpy as np
import pytest

from defectline.components.common.inference.glance import Glance, halve
from defectline.components.common.inference.inspection import LEVELS


def glance(height: int, width: int, at: tuple[int, int] | None = None) -> Glance:
    scores = np.full((-(-height // 2), -(-width // 2)), 10, np.uint16)
    if at:
        scores[at[0] // 2, at[1] // 2] = 500
    return Glance(scores, 400)


@pytest.mark.parametrize(
    ("at", "suspected"), [((40, 40), True), ((30, 95), True), ((95, 95), True), ((110, 40), False)]
)
def test_a_tile_is_suspected_for_what_is_in_it_and_close_to_it(at, suspected):
    """The tile of rows and columns 32 to 95."""
    assert glance(200, 200, at).suspects(32, 32, 64) == suspected


@pytest.mark.parametrize(("at", "suspected"), [((97, 40), True), ((31, 31), True), ((110, 110), False)])
def test_a_find_on_a_seam_concerns_both_tiles(at, suspected):
    assert glance(200, 200, at).suspects(32, 32, 64) == suspected


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("place", [(0, 0), (33, 71), (140, 140), (0, 199)])
def test_the_rest_has_a_map_of_its_size_that_stays_below_the_level(outputs, place):
    """At the lower and right edge, too, where tiles stick out."""
    random = np.random.default_rng(0)
    seen = Glance(random.integers(0, 400, (101, 100), np.uint16), 400)
    tile = seen.tile(*place, 64, outputs)
    assert tile.dtype == np.float32
    assert tile.shape == ((64, 64) if outputs == 2 else (64, 64, 4))
    defect = tile if outputs == 2 else 1 - tile[..., 0]
    assert defect.max() * LEVELS < 400
    if outputs > 2:
        np.testing.assert_allclose(tile.sum(axis=-1), 1, atol=1e-6)


def test_it_lies_where_it_was_seen():
    scores = np.zeros((100, 100), np.uint16)
    scores[40:50, 60:70] = 300
    tile = Glance(scores, 400).tile(64, 96, 64, 2)
    rows, columns = np.nonzero(tile > 0.2)
    assert (rows.min(), rows.max()) == pytest.approx((16, 35), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((24, 43), abs=1)


@pytest.mark.parametrize("shape", [(10, 10, 1), (11, 7, 3), (1, 1, 1)])
def test_half_a_frame(shape):
    half = halve(np.full(shape, 77, np.uint8))
    assert half.shape == (-(-shape[0] // 2), -(-shape[1] // 2), shape[2])
    assert (half == 77).all()
