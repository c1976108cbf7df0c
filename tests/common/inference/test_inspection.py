"""From probabilities to an answer: the rule of the score, regions and masks."""

import base64
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from defectline.components.common.bundle import mask_iou
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.inference.inspection import (
    LEVELS,
    Grades,
    answer,
    find_regions,
    grade,
    image_score,
    judge_score,
    to_prediction,
    to_score_map,
)

# Few different levels and small pictures, so that regions of every size come up.
LEVEL_MAPS = arrays(
    np.uint16,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 1, 49, 50, 500, 501, 999, LEVELS]),
)
AREAS = st.integers(1, 12)


@settings(deadline=None)
@given(LEVEL_MAPS, st.integers(1, LEVELS), AREAS)
def test_a_score_reaches_a_threshold_exactly_where_a_region_survives_it(score_map, threshold, area):
    regions, _ = find_regions(score_map, threshold, area)
    assert (image_score(score_map, area) >= threshold) == bool(regions)


@settings(deadline=None)
@given(LEVEL_MAPS, st.integers(1, LEVELS), AREAS)
def test_verdict_score_mask_and_regions_agree(score_map, threshold, area):
    judged = answer(score_map, threshold / LEVELS, area)
    assert (judged.verdict == "NG") == (judged.score >= threshold / LEVELS) == bool(judged.regions)
    assert judged.mask.shape == score_map.shape
    assert judged.mask.sum() == sum(region.area_px for region in judged.regions)
    assert (score_map[judged.mask == 1] >= threshold).all()
    assert all(threshold / LEVELS <= region.score <= 1 for region in judged.regions)


@settings(deadline=None)
@given(LEVEL_MAPS, st.floats(0, 1), AREAS)
def test_the_score_alone_tells_the_verdict_at_any_threshold(score_map, threshold, area):
    judged = answer(score_map, 0.5, area)
    assert judge_score(judged.score, threshold) == answer(score_map, threshold, area).verdict


@settings(deadline=None)
@given(LEVEL_MAPS)
def test_a_picture_with_fewer_pixels_than_a_region_scores_nothing(score_map):
    assert image_score(score_map, score_map.size + 1) == 0
    assert answer(score_map, 0.001, score_map.size + 1).verdict == "OK"


def test_levels_that_are_all_zero_are_no_region_even_at_threshold_zero():
    assert answer(np.zeros((4, 4), np.uint16), 0.0, 1).verdict == "OK"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thousandths_are_exact(dtype):
    thousandths = (np.arange(LEVELS + 1) / LEVELS).astype(dtype)
    np.testing.assert_array_equal(to_score_map(thousandths), np.arange(LEVELS + 1))
    # What lies between is rounded down.
    np.testing.assert_array_equal(to_score_map(thousandths[:-1] + dtype(0.0005)), np.arange(LEVELS))


def test_levels_outside_of_0_to_1_are_clipped():
    assert to_score_map(np.array([-0.2, 1.3])).tolist() == [0, LEVELS]


def test_regions_are_described_and_come_largest_first():
    score_map = np.zeros((20, 30), np.uint16)
    score_map[2:5, 3:8] = 600
    score_map[3, 4] = 910
    score_map[10:16, 20:24] = 700
    score_map[16, 24] = 700  # touches the corner: diagonals connect
    score_map[18, 2] = 999  # too small
    regions, mask = find_regions(score_map, 600, 4)
    assert [r.area_px for r in regions] == [25, 15]
    assert [r.bbox for r in regions] == [(20, 10, 5, 7), (3, 2, 5, 3)]
    assert regions[1].centroid == (5.0, 3.0)
    assert [r.score for r in regions] == [0.7, 0.91]
    assert mask.sum() == 40
    assert mask[18, 2] == 0


def test_the_peak_of_a_region_is_its_own():
    """A brighter neighbour inside the bounding box belongs to another region."""
    score_map = np.zeros((5, 5), np.uint16)
    score_map[0, :] = score_map[:, 0] = 500  # an L around a point
    score_map[3, 3] = 1000
    regions, _ = find_regions(score_map, 500, 1)
    assert [(r.area_px, r.score) for r in regions] == [(9, 0.5), (1, 1.0)]


@settings(deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)))
def test_masks_survive_the_way_over_the_line(mask):
    data = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(data), mask)
    assert Image.open(BytesIO(data)).mode == "1"


def test_a_prediction_holds_plain_numbers():
    score_map = np.zeros((10, 20), np.uint16)
    score_map[1:4, 2:7] = 800
    prediction = to_prediction(answer(score_map, 0.5, 5))
    mask = prediction.pop("mask_png")
    assert prediction == {
        "verdict": "NG",
        "score": 0.8,
        "defect_area_px": 15,
        "defect_area_ratio": 0.075,
        "regions": [{"bbox": [2, 1, 5, 3], "area_px": 15, "centroid": [4.0, 2.0], "score": 0.8}],
    }
    np.testing.assert_array_equal(decode_mask(base64.b64decode(mask)), score_map > 0)


@pytest.mark.parametrize(
    ("verdict", "area_px", "expected"),
    [
        ("OK", 0, "A"),
        ("OK", 900, "A"),
        ("NG", 50, "A"),
        ("NG", 51, "B"),
        ("NG", 200, "B"),
        ("NG", 201, "reject"),
    ],
)
def test_grades_by_area(verdict, area_px, expected):
    assert grade(verdict, area_px, Grades(a_px=50, b_px=200)) == expected


def test_a_prediction_is_graded_where_there_are_limits():
    score_map = np.zeros((10, 20), np.uint16)
    score_map[1:4, 2:7] = 800
    judged = answer(score_map, 0.5, 5)
    assert to_prediction(judged, Grades(a_px=15, b_px=15))["grade"] == "A"
    assert to_prediction(judged, Grades(a_px=14, b_px=15))["grade"] == "B"
    assert to_prediction(judged, Grades(a_px=0, b_px=14))["grade"] == "reject"


def test_iou_of_empty_masks_is_one():
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert [mask_iou(empty, empty), mask_iou(empty, full), mask_iou(full, full)] == [1.0, 0.0, 1.0]


@settings(deadline=None)
@given(LEVEL_MAPS, AREAS, st.tuples(st.integers(1, LEVELS), st.integers(1, LEVELS)))
def test_between_two_levels_a_person_looks(score_map, area, levels):
    low, high = sorted(levels)
    found = answer(score_map, low / LEVELS, area, ng_from=high / LEVELS)
    below, above = (answer(score_map, level / LEVELS, area) for level in (low, high))
    assert found.verdict == ("OK" if below.verdict == "OK" else "NG" if above.verdict == "NG" else "LOOK")
    assert found.verdict == judge_score(found.score, low / LEVELS, high / LEVELS)
    # What is drawn is what reached the level that the picture was called by.
    drawn = above if found.verdict == "NG" else below
    np.testing.assert_array_equal(found.mask, drawn.mask)
    assert found.regions == drawn.regions
