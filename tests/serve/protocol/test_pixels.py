"""UINT8 tensors: pixels instead of files."""

import json

import numpy as np
import pytest

from defectline.components.common.images.reading import decode_image
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.pixels import pictures_of_pixels
from defectline.components.serve.protocol.requests import MAX_PICTURES, read_v2

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 30, 1), np.uint8)
COLOUR = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_pixels_arrive_as_they_were_sent(pixels):
    for data in (pixels.tobytes(), pixels.tolist(), pixels.ravel().tolist()):
        (picture,) = pictures_of_pixels(list(pixels.shape), data)
        assert np.array_equal(decode_image(picture, pixels.shape[-1]), pixels)
    both = np.stack([pixels, pixels[::-1]])
    first, second = pictures_of_pixels(list(both.shape), both.tobytes())
    assert np.array_equal(decode_image(second, pixels.shape[-1]), pixels[::-1])
    assert first == picture


def test_transparency_is_read_as_in_files():
    see_through = np.concatenate([COLOUR, np.full((20, 30, 1), 255, np.uint8)], axis=2)
    (picture,) = pictures_of_pixels([20, 30, 4], see_through.tobytes())
    assert np.array_equal(decode_image(picture, 3), COLOUR)


@pytest.mark.parametrize(
    ("shape", "data", "says"),
    [
        ([20, 30], GREY.tobytes(), "with channels|Expected"),
        ([1, 20, 30], GREY.tobytes(), "Expected"),
        ([20, 30, 2], bytes(1200), "Expected"),
        ([0, 30, 1], b"", "Expected"),
        ([20, 30, 1], GREY.tobytes()[:-1], "for 600 values, the data has 599"),
        ([1, 2, 1], [3, 256], "numbers from 0 to 255"),
        ([1, 2, 1], [3, -1], "numbers from 0 to 255"),
        ([1, 2, 1], [3, 0.5], "numbers from 0 to 255"),
        ([1, 2, 1], [3, "x"], "numbers from 0 to 255"),
        ([1, 2, 1], [[3], [4, 5]], "numbers from 0 to 255"),
        ([1, 2, 1], [3, None], "numbers from 0 to 255"),
    ],
)
def test_other_tensors_are_refused_in_words(shape, data, says):
    with pytest.raises(ApiError, match=says) as refused:
        pictures_of_pixels(shape, data)
    assert refused.value.http == 400


def test_no_more_pictures_than_as_files():
    tensor = {"name": "image", "datatype": "UINT8", "shape": [MAX_PICTURES + 1, 1, 1, 1]}
    body = {"inputs": [{**tensor, "data": [0] * (MAX_PICTURES + 1)}]}
    with pytest.raises(ApiError, match="too many") as refused:
        read_v2(json.dumps(body).encode(), None, {})
    assert refused.value.http == 413
