"""Variants of pictures. What an endpoint says of them is tried in test_qualify.py."""

import numpy as np

from defectline.pipeline.qualification.robustness import variants


def test_shifted_and_lit_otherwise():
    image = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    found = list(variants(image))
    names = [name for name, _ in found]
    assert {name: names.count(name) for name in names} == {
        "1 px aside": 4,
        "2 px aside": 4,
        "4 px aside": 4,
        "exposure × 0.9": 1,
        "exposure × 0.95": 1,
        "exposure × 1.05": 1,
        "exposure × 1.1": 1,
    }
    assert {one.shape for _, one in found} == {image.shape}
    assert {one.dtype for _, one in found} == {np.dtype(np.uint8)}
    up = found[0][1]
    np.testing.assert_array_equal(up[1:], image[:-1])
    np.testing.assert_array_equal(up[0], image[0])
    brighter = dict(found)["exposure × 1.1"]
    np.testing.assert_array_equal(brighter, np.clip(np.rint(image * np.float32(1.1)), 0, 255))


def test_a_small_picture_is_shifted_less():
    names = {name for name, _ in variants(np.zeros((8, 8, 3), np.uint8))}
    assert "2 px aside" in names
    assert "4 px aside" not in names
