"""Tiles: where they lie, what is kept of them, and how their maps become the frame's again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectline.components.common.images.imaging import ImagingSettings, frame_grid
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.images.tiling import OVERLAP, blend_weights, cut_tile, stitch, tile_grid
from defectline.components.common.inference.inspection import LEVELS, to_score_map
from defectline.components.preprocess.tiles import choose_tiles, tiles_with_defects

SIDES = st.integers(1, 200)
SIZES = st.sampled_from([32, 64, 96])
SHARES = st.floats(0, 1)


@settings(deadline=None)
@given(SIDES, SIDES, SIZES)
def test_tiles_cover_every_pixel_and_stay_in_the_frame(height, width, size):
    grid = tile_grid(height, width, size)
    covered = np.zeros((height, width), int)
    for y, x in grid.positions:
        assert 0 <= y <= max(0, height - size)
        assert 0 <= x <= max(0, width - size)
        covered[y : y + size, x : x + size] += 1
    assert covered.min() >= 1
    assert len(set(grid.positions)) == len(grid.positions)


@given(st.integers(1, 100_000), SIZES)
def test_neighbours_overlap_and_there_are_no_more_than_needed(length, size):
    starts = tile_grid(length, 1, size).ys
    steps = np.diff(starts)
    assert (steps <= size * (1 - OVERLAP)).all()
    assert (len(starts) - 2) * size * (1 - OVERLAP) < max(length - size, 1)


@given(st.integers(1, 500), SIZES)
def test_the_weights_of_every_pixel_sum_to_one(length, size):
    starts = tile_grid(length, 1, size).ys
    total = np.zeros(max(length, size))
    for start, weights in zip(starts, blend_weights(starts, length, size), strict=True):
        assert (weights > 0).all()
        total[start : start + size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(deadline=None)
@given(SIDES, SIDES, SIZES)
def test_cutting_and_stitching_gives_a_ramp_back(height, width, size):
    ramp = np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.5, width)).astype(np.float32)
    grid = tile_grid(height, width, size)
    rows = (np.stack([cut_tile(ramp, y, x, size) for x in grid.xs]) for y in grid.ys)
    stitched = np.concatenate(list(stitch(grid, rows)))
    assert stitched.shape == (height, width)
    np.testing.assert_allclose(stitched, ramp, atol=1e-6)


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, st.integers(0, LEVELS))
def test_one_probability_everywhere_gives_one_level_everywhere(height, width, size, level):
    grid = tile_grid(height, width, size)
    maps = np.full((len(grid.xs), size, size), level / LEVELS, np.float32)
    for band in stitch(grid, [maps] * len(grid.ys)):
        assert (to_score_map(band) == level).all()


@pytest.mark.parametrize("shape", [(20, 50), (20, 50, 3), (100, 30, 1), (20, 20)])
def test_what_sticks_out_of_the_frame_is_reflected(shape):
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tile = cut_tile(frame, 0, 0, 32)
    inside = frame[:32, :32]
    missing = [(0, 32 - side) for side in inside.shape[:2]] + [(0, 0)] * (frame.ndim - 2)
    np.testing.assert_array_equal(tile, np.pad(inside, missing, "reflect"))


def test_a_frame_of_one_pixel_fills_a_tile():
    assert (cut_tile(np.full((1, 1, 3), 7, np.uint8), 0, 0, 32) == 7).all()


def test_frames_whose_tiles_would_need_too_much_memory_are_refused():
    imaging = ImagingSettings(image_size=224, tile=True)
    assert frame_grid(7000, 7000, imaging).height == 7000
    with pytest.raises(UnreadableImage, match="long and narrow") as caught:
        frame_grid(1, 50_000_000, imaging)
    assert "50000000×1" in caught.value.got


@settings(deadline=None)
@given(st.text(min_size=1), SIDES, SIDES, SHARES, SHARES, st.data())
def test_all_defects_and_a_share_of_the_rest_are_kept(picture, height, width, one, other, data):
    grid = tile_grid(height, width, 32)
    defects = data.draw(st.lists(st.sampled_from(grid.positions), unique=True, max_size=5))
    few, many = (choose_tiles(picture, grid, defects, share) for share in sorted((one, other)))
    assert len(few) >= 1
    assert {*defects} <= {*few}
    assert few == sorted(few)
    assert {*few} <= {*many} or not defects
    assert {*few} <= {*grid.positions}
    assert choose_tiles(picture, grid, defects, 1) == grid.positions
    assert choose_tiles(picture, grid, defects, 0) == (sorted(defects) or choose_tiles(picture, grid, [], 0))


def test_the_share_of_empty_tiles_is_kept():
    grid = tile_grid(3000, 3000, 32)
    kept = choose_tiles("OK/1", grid, [], 0.25)
    assert abs(len(kept) / len(grid.positions) - 0.25) < 0.02
    assert kept != choose_tiles("OK/2", grid, [], 0.25)


def test_a_defect_on_a_seam_is_in_every_tile_that_shows_it():
    mask = np.zeros((64, 64), np.uint8)
    mask[30, 30] = 1
    grid = tile_grid(64, 64, 32)
    assert (grid.ys, tiles_with_defects(grid, mask)) == ((0, 16, 32), [(0, 0), (0, 16), (16, 0), (16, 16)])
