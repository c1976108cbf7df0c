"""Random changes of training images."""

import numpy as np
from keras import ops

from defectline.components.train.augmentation import Augment


def test_a_mask_is_turned_with_its_picture():
    rng = np.random.default_rng(0)
    masks = np.zeros((16, 8, 8), np.float32)
    for mask in masks:
        y, x = rng.integers(0, 6, 2)
        mask[y : y + 3, x : x + 2] = 1
    pictures = (100 + 50 * masks)[..., None]
    images, truths = (np.array(part) for part in Augment(seed=0)(ops.array(pictures), ops.array(masks)))
    assert set(np.unique(truths)) == {0, 1}
    assert not np.array_equal(truths, masks)
    for image, truth in zip(images[..., 0], truths, strict=True):
        # The contrast is never turned around.
        assert np.array_equal(image > (image.min() + image.max()) / 2, truth == 1)
    assert images.min() >= 0
    assert images.max() <= 255
