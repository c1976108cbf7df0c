"""Pictures of the contact sheet, pixel by pixel."""

import base64
import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.classes import IGNORE
from defectline.components.common.images.colours import colour_of
from defectline.components.ingest.figures import COLOUR, WIDTH_PX, coloured, figure

GREY = np.full((40, 80, 3), 90, np.uint8)


def square(value: int = 1) -> NDArray[np.uint8]:
    truth = np.zeros((40, 80), np.uint8)
    truth[10:20, 10:30] = value
    return truth


def drawn(html: str) -> NDArray[np.int64]:
    (data,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def near(pixels: NDArray[np.int64], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.abs(pixels - colour).max(axis=2) < 60


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 80), (160, 320)), ((500, 1000), (160, 320)), ((9, 400), (7, 320)), ((4000, 2), (1280, 320))],
)
def test_any_size_is_shown_about_as_wide(size: tuple[int, int], expected: tuple[int, int]):
    pixels = drawn(figure(np.zeros((*size, 3), np.uint8), None, None, "x", False))
    assert pixels.shape[:2] == expected
    assert pixels.shape[1] == WIDTH_PX


def test_a_picture_that_cannot_be_shown_is_said_to_be_none():
    assert "no picture" in figure(None, square(), None, "x", False)


@pytest.mark.parametrize("several", [False, True])
def test_a_defect_is_outlined_in_its_colour(several: bool):
    html = figure(GREY, square(2), None, '<"x">', several)
    outlined = near(drawn(html), colour_of(2) if several else COLOUR)
    assert outlined.any()
    assert not outlined[44:76, 44:116].any()
    assert 'alt="&lt;&quot;x&quot;&gt;"' in html


def test_what_does_not_count_is_hatched():
    pixels = drawn(figure(GREY, square(IGNORE), None, "x", False))
    assert np.ptp(pixels[44:76, 44:116]) > 200
    assert np.ptp(pixels[:, 160:]) < 20


def test_outside_of_the_region_it_is_dimmed_and_marks_lie_above():
    roi = np.zeros((40, 80), np.uint8)
    roi[:, 40:] = 1
    pixels = drawn(figure(GREY, square(), roi, "x", False))
    assert np.abs(pixels[:, 170:] - 90).max() < 20
    assert np.abs(pixels[100:, :150] - 36).max() < 20
    assert near(pixels, COLOUR).any()


def test_a_mask_of_another_size_is_not_drawn():
    assert np.ptp(drawn(figure(GREY, square()[:30], None, "x", False))) < 5


def test_a_mask_is_a_picture():
    truth = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert coloured(truth, False).tolist() == [[[0] * 3, [255] * 3, [255] * 3, [110] * 3]]
    assert coloured(truth, True)[0, 1:3].tolist() == [list(colour_of(1)), list(colour_of(2))]
