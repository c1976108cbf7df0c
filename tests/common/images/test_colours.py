import io

import numpy as np
from PIL import Image

from defectline.components.common.images.colours import COLOURS, colour_of, encode_classes
from defectline.components.common.images.masks import decode_mask, encode_mask


def test_the_mask_of_several_classes_shows_them_in_colours_and_holds_their_numbers():
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data = encode_classes(mask, ["a"] * 23)
    np.testing.assert_array_equal(decode_mask(data, numbered=True), mask)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert [tuple(shown.reshape(-1, 3)[number]) for number in (0, 1, 2)] == [(0, 0, 0), *COLOURS[:2]]
    # A program that looks for what is bright finds all classes.
    assert np.asarray(Image.open(io.BytesIO(data)).convert("L"))[mask > 0].min() >= 100
    assert colour_of(2 + len(COLOURS)) == COLOURS[1]


def test_the_mask_of_one_class_has_one_bit():
    mask = np.eye(5, dtype=np.uint8)
    assert encode_classes(mask, ["defect"]) == encode_mask(mask)
