"""Masks with smoothed edges are split at half; numbers, doubts and photographs are not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paths import SHARED
from pictures import noise

from defectline.components.common.images.masks import read_mask
from defectline.components.common.images.smoothing import split
from defectline.components.common.images.unreadable import UnreadableImage

TILES = SHARED / "data" / "magnetic_tile"


def blob(size: int = 160) -> NDArray[np.uint8]:
    """A sharp mask of 0 and 255 with a disc and a bar."""
    pixels = np.zeros((size, size), np.uint8)
    cv2.circle(pixels, (size // 2, size // 2), size // 4, 255, -1)
    return cv2.rectangle(pixels, (4, 4), (40, 24), 255, -1)


@pytest.mark.parametrize("sigma", [0.6, 1, 2, 3, 5])
def test_broad_edges_are_split_at_half(sigma: float):
    sharp = blob()
    smooth = cv2.GaussianBlur(sharp, (0, 0), sigma)
    found = split(smooth)
    assert found is not None
    assert np.array_equal(found, (smooth >= 128).astype(np.uint8))
    assert np.mean(found != sharp // 255) < 0.01


def test_edges_of_one_side_only_may_be_broad():
    sharp = blob()
    ramp = np.clip(np.arange(160)[None] * 4 - 200, 0, 255).astype(np.uint8).repeat(160, axis=0)
    assert split(np.where(sharp > 0, ramp, 0).astype(np.uint8)) is not None


def with_values(*values: int) -> NDArray[np.uint8]:
    """A mask with squares of these values."""
    pixels = np.zeros((120, 120), np.uint8)
    for number, value in enumerate(values):
        y, x = divmod(number * 30, 120)
        pixels[y * 30 + 4 : y * 30 + 24, x + 4 : x + 24] = value
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(with_values(100, 255, 255, 255), id="a-doubt"),
        pytest.param(with_values(60, 120, 180, 255), id="levels-for-classes"),
        pytest.param(with_values(1, 2, 3, 255), id="numbers"),
        pytest.param(with_values(10, 20, 30, 40), id="numbers-times-ten"),
        pytest.param(cv2.GaussianBlur(with_values(100, 255, 255, 255), (0, 0), 2), id="a-smoothed-doubt"),
        pytest.param(cv2.GaussianBlur(with_values(90, 170, 255, 255), (0, 0), 2), id="smoothed-levels"),
        pytest.param(noise(1, 64), id="noise"),
        pytest.param(cv2.GaussianBlur(noise(1, 64), (0, 0), 3), id="smoothed-noise"),
        pytest.param(np.arange(256, dtype=np.uint8)[None].repeat(64, axis=0), id="a-ramp"),
        pytest.param(np.full((9, 9), 77, np.uint8), id="one-grey"),
    ],
)
def test_what_says_more_than_two_values_is_left(pixels: NDArray[np.uint8]):
    assert split(pixels) is None


@pytest.mark.skipif(not TILES.exists(), reason="the magnetic tiles are not on this machine")
def test_magnetic_tiles_are_read_but_for_one():
    refused = []
    for path in sorted(TILES.rglob("*.png")):
        try:
            read_mask(path.read_bytes())
        except UnreadableImage:
            refused.append(Path(path).stem)
    # It has no white at all.
    assert refused == ["exp3_num_24829"]
