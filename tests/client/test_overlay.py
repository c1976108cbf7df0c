"""What is drawn over an inspected image."""

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from defectline.client.overlay import NG, draw_overlay
from defectline.components.common.images.colours import colour_of
from defectline.components.common.images.drawing import EDGE
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.inference.class_maps import of_output
from defectline.components.common.inference.inspection import answer, to_prediction


def test_an_overlay_without_a_mask_shows_boxes(tmp_path):
    score_map = np.zeros((64, 64), np.uint16)
    score_map[20:30, 10:40] = 900
    found = {**to_prediction(answer(score_map, 0.5, 4)), "mask_png": None, "grade": "B"}
    draw_overlay(encode(np.full((64, 64), 100, np.uint8)), found, tmp_path / "drawn.png")
    red = (np.asarray(Image.open(tmp_path / "drawn.png")) == NG).all(axis=2)[34:]
    rows, columns = np.nonzero(red)
    assert (rows.min() // 7, rows.max() // 7, columns.min() // 7, columns.max() // 7) == (20, 29, 10, 39)


def test_outside_of_the_region_of_interest_it_is_dimmed(tmp_path):
    score_map = np.zeros((64, 64), np.uint16)
    score_map[20:30, 10:20] = 900
    roi = np.ones((32, 32), np.uint8)
    roi[:, 16:] = 0
    found = to_prediction(answer(score_map, 0.5, 4))
    image = encode(np.full((64, 64), 100, np.uint8))
    draw_overlay(image, found, tmp_path / "drawn.png", encode_mask(roi))
    draw_overlay(image, found, tmp_path / "whole.png")
    drawn, whole = (np.asarray(Image.open(tmp_path / f"{name}.png"))[34:] for name in ("drawn", "whole"))
    assert (drawn[:, 7 * 32 :] == 40).all()
    assert (drawn[:, 7 * 32 - 1] == EDGE).all()
    assert np.array_equal(drawn[:, : 7 * 32 - 1], whole[:, : 7 * 32 - 1])


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (20, 8192)])
def test_an_overlay_of_a_narrow_picture_stays_small(tmp_path, size):
    found = {**to_prediction(answer(np.zeros(size, np.uint16), 0.5, 4)), "grade": "A"}
    draw_overlay(encode(np.full(size, 100, np.uint8)), found, tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert max(drawn.size) < 9000


def test_an_overlay_of_a_large_picture_can_be_read_too(tmp_path):
    picture, target = encode(np.zeros((1000, 1792), np.uint8)), tmp_path / "overlay.png"
    score_map = np.zeros((1000, 1792), np.uint16)
    score_map[400:500, 300:700] = 900
    draw_overlay(picture, to_prediction(answer(score_map, 0.5, 20)), target)
    drawn = np.asarray(Image.open(target))
    assert drawn.shape == (1000 + 136, 1792, 3)
    red = (drawn == (231, 76, 60)).all(axis=2)
    # The outline grows with the picture.
    assert red[136 + 450, 250:350].sum() >= 3


@pytest.mark.parametrize("mask", [True, False])
def test_each_class_is_drawn_in_its_colour_with_a_legend(tmp_path, mask):
    score_map, likely = np.zeros((64, 64), np.uint16), np.zeros((64, 64, 2), np.float32)
    score_map[8:16, 8:30], likely[8:16, 8:30, 0] = 900, 0.9
    score_map[30:40, 10:40], likely[30:40, 10:40, 1] = 900, 0.9
    maps = of_output(("scratch", "dent"), likely, 64, 64)
    draw_overlay(
        encode(np.full((64, 64), 100, np.uint8)),
        to_prediction(answer(score_map, 0.5, 4, maps), mask=mask),
        tmp_path / "drawn.png",
    )
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    head = 34 + 24
    assert drawn.shape == (head + 7 * 64, 448, 3)
    for number, top in ((1, 8), (2, 30)):
        coloured = (drawn == colour_of(number)).all(axis=2)
        assert np.nonzero(coloured[head:])[0].min() // 7 == top
        assert coloured[34:head].any()
