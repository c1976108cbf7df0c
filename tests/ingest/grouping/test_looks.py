"""What a picture looks like: the same after what cameras and programs do to it, another for another part."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from defectline.components.common.images.sample import draw_pair
from defectline.components.ingest.grouping.looks import PLAIN, SIDE, Likeness, describe, unpack
from defectline.components.ingest.grouping.twins import ALIKE


def plate(number: int) -> NDArray[np.uint8]:
    grey, _ = draw_pair("OK", np.random.default_rng([7, number]), 224)
    return np.repeat(grey[..., None], 3, axis=2)


def shifted(pixels: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    return np.roll(pixels, (down, across), axis=(0, 1))


def jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def alike(one: str, other: str) -> float:
    return Likeness([one, other], np.zeros((SIDE, SIDE), np.float32))(0, 1)


CHANGES = {
    "compressed": lambda p: jpeg(p, 40),
    "darker": lambda p: (p * 0.6).astype(np.uint8),
    "brighter": lambda p: np.clip(p.astype(int) + 40, 0, 255).astype(np.uint8),
    "less contrast": lambda p: (p // 2 + 60).astype(np.uint8),
    "shade": lambda p: (p * np.linspace(0.5, 1, p.shape[1])[None, :, None]).astype(np.uint8),
    "shifted": lambda p: shifted(p, 9, -6),
    "smaller": lambda p: cv2.resize(p, (160, 160), interpolation=cv2.INTER_AREA),
    "cut": lambda p: p[5:-4, 3:-7],
    "noise": lambda p: np.clip(p + np.random.default_rng(0).normal(0, 6, p.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_picture_still_looks_alike(change: str, number: int):
    picture = plate(number)
    assert alike(describe(picture), describe(np.asarray(CHANGES[change](picture), np.uint8))) > ALIKE + 0.05


def test_different_plates_do_not_look_alike():
    looks = [describe(plate(number)) for number in range(12)]
    scores = [alike(looks[a], looks[b]) for a in range(12) for b in range(a)]
    assert max(scores) < ALIKE


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_that_shows_nothing_is_plain(level: int):
    assert describe(np.full((90, 120, 3), level, np.uint8)) == PLAIN


def test_a_look_is_short_and_says_what_is_brighter():
    pixels = np.full((560, 560, 3), 50, np.uint8)
    pixels[100:160, 200:260] = 250
    pixels[300:360, 400:460] = 0
    look = describe(pixels)
    assert len(look) <= 840
    cells = unpack(look)
    assert cells.shape == (SIDE, SIDE)
    assert set(np.unique(cells)) == {-1, 0, 1}
    assert cells[13, 23] == 1
    assert cells[33, 43] == -1
    assert cells[50, 5] == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 4000, 3), (16, 16, 1)])
def test_any_size_has_a_look(shape: tuple[int, int, int]):
    look = describe(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    assert look == PLAIN or unpack(look).shape == (SIDE, SIDE)
