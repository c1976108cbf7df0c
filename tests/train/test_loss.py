"""The loss, by hand."""

import numpy as np
import pytest
from keras import ops

from defectline.components.train.loss import cross_entropy_and_dice


def test_the_loss_is_cross_entropy_and_dice_of_the_defect_by_hand():
    mask, probability = np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 0.25, np.float32)
    mask[0, 0, 0] = 1
    loss = float(cross_entropy_and_dice(ops.array(mask), ops.array(probability)))
    cross_entropy = -(np.log(0.25) + 3 * np.log(0.75)) / 4
    dice = 1 - (2 * 0.25 + 1) / (1 + 1 + 1)
    assert loss == pytest.approx(cross_entropy + dice, abs=1e-4)


def test_a_replica_without_an_image_has_no_loss_that_is_not_a_number():
    empty = ops.zeros((0, 4, 4))
    assert float(cross_entropy_and_dice(empty, empty)) == pytest.approx(0)
