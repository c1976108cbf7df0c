"""Pictures inside HTML pages."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from defectline.components.common.images.drawing import (
    DIMMED,
    EDGE,
    contours,
    data_uri,
    dim_outside,
    outline,
    picture_uri,
)

RED = (255, 0, 0)


def square(size: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[low:high, low:high] = 1
    return mask


@pytest.mark.parametrize("margin", [1, 2])
def test_contours_run_outside_of_a_defect(margin: int):
    (line,) = contours(square(40, 10, 20), 40, 40, margin)
    assert (line.min(), line.max()) == (10 - margin, 19 + margin)


def test_a_thin_defect_keeps_its_outline_where_the_picture_is_shrunken():
    mask = np.zeros((1000, 1000), np.uint8)
    mask[500, 100:900] = 1
    (line,) = contours(mask, 100, 100, margin_px=1)
    x, y = line.reshape(-1, 2).T
    assert (x.min(), x.max()) == (9, 90)
    assert (y.min(), y.max()) == (49, 51)


def test_an_outline_leaves_the_picture_and_the_defect_as_they_are():
    image, mask = np.full((40, 40, 3), 90, np.uint8), square(40, 10, 20)
    drawn = outline(image, mask, RED)
    assert (image == 90).all()
    changed = (drawn != image).any(axis=2)
    assert {tuple(pixel) for pixel in drawn[changed]} == {RED}
    assert changed.any()
    assert not changed[mask > 0].any()


def test_without_a_defect_there_is_no_outline():
    image = np.full((40, 30, 3), 90, np.uint8)
    assert np.array_equal(outline(image, np.zeros((80, 60), np.uint8), RED), image)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("grey", [0, 90, 255])
def test_outside_of_a_region_it_is_dark_and_at_its_edge_is_a_line(grey: int, scale: int):
    image, roi = np.full((80, 80, 3), grey, np.uint8), square(80 // scale, 20 // scale, 80 // scale)
    drawn = dim_outside(image, roi, line_px=2)
    assert (image == grey).all()
    assert (drawn[:20] == int(grey * DIMMED)).all()
    assert (drawn[22:, 22:] == grey).all()
    # Not where the region ends with the picture.
    assert {tuple(pixel) for pixel in drawn[20:22, 20:].reshape(-1, 3)} == {EDGE}
    assert np.array_equal(dim_outside(image, np.ones_like(roi)), image)


def test_a_picture_is_in_its_uri_without_loss():
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    head, _, data = picture_uri(image).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as found:
        assert np.array_equal(np.asarray(found.convert("RGB")), image)
    assert len(picture_uri(image, quality=10)) < len(picture_uri(image))
    assert data_uri(b"any", "gif") == "data:image/gif;base64," + base64.b64encode(b"any").decode()
