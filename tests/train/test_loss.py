"""The loss, by hand."""

import numpy as np
import pytest
from keras import ops

from defectline.components.train.loss import classes_loss, cross_entropy_and_dice, label_loss


def test_the_loss_is_cross_entropy_and_dice_of_the_defect_by_hand():
    mask, probability = np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 0.25, np.float32)
    mask[0, 0, 0] = 1
    loss = float(cross_entropy_and_dice(ops.array(mask), ops.array(probability)))
    cross_entropy = -(np.log(0.25) + 3 * np.log(0.75)) / 4
    dice = 1 - (2 * 0.25 + 1) / (1 + 1 + 1)
    assert loss == pytest.approx(cross_entropy + dice, abs=1e-4)


def test_classes_that_a_batch_does_not_show_have_no_dice():
    truth, likely = np.zeros((1, 2, 2)), np.full((1, 2, 2, 4), 0.1)
    likely[..., 0] = 0.7
    truth[0, 0, 0] = 2
    loss = float(classes_loss(ops.array(truth, "float32"), ops.array(likely, "float32")))
    cross_entropy = -(3 * np.log(0.7) + np.log(0.1)) / 4
    any_defect, second = 1 - (2 * 0.3 + 1) / (1.2 + 1 + 1), 1 - (2 * 0.1 + 1) / (0.4 + 1 + 1)
    assert loss == pytest.approx(cross_entropy + (any_defect + second) / 2, abs=1e-5)


def test_a_replica_without_an_image_has_no_loss_that_is_not_a_number():
    empty = ops.zeros((0, 4, 4))
    assert float(cross_entropy_and_dice(empty, empty)) == pytest.approx(0)


def test_what_does_not_count_has_no_part_in_the_loss():
    rng = np.random.default_rng(0)
    mask, probability = rng.integers(0, 2, (2, 6, 8)), rng.random((2, 6, 8))
    counts = np.ones_like(mask)
    counts[:, :, 4:] = 0
    whole = np.where(counts == 1, mask, 255)
    given = (ops.array(each, "float32") for each in (whole, probability, counts))
    cut = (ops.array(each[:, :, :4], "float32") for each in (mask, probability))
    assert float(cross_entropy_and_dice(*given)) == pytest.approx(
        float(cross_entropy_and_dice(*cut)), abs=1e-6
    )


def test_the_loss_of_several_classes_by_hand():
    truth = np.array([[[0, 1], [2, 255]]])
    likely = np.array([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]], [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]]])
    loss = float(classes_loss(ops.array(truth, "float32"), ops.array(likely, "float32")))
    cross_entropy = -(np.log(0.7) + np.log(0.6) + np.log(0.5)) / 3
    first, second = 1 - (2 * 0.6 + 1) / (1.1 + 1 + 1), 1 - (2 * 0.5 + 1) / (0.7 + 1 + 1)
    any_defect = 1 - (2 * (0.7 + 0.8) + 1) / (0.3 + 0.7 + 0.8 + 2 + 1)
    assert loss == pytest.approx(cross_entropy + (any_defect + (first + second) / 2) / 2, abs=1e-5)
    empty = ops.zeros((0, 4, 4))
    assert float(classes_loss(empty, ops.zeros((0, 4, 4, 3)))) == pytest.approx(0)


def test_a_defect_of_no_class_counts_as_a_defect_alone():
    likely = np.array([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]], [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]]])
    truth = np.array([[[0, 1], [2, 254]]])
    loss = float(classes_loss(ops.array(truth, "float32"), ops.array(likely, "float32")))
    cross_entropy = -(np.log(0.7) + np.log(0.6) + np.log(0.5) + np.log(0.9)) / 4
    any_defect = 1 - (2 * (0.7 + 0.8 + 0.9) + 1) / (0.3 + 0.7 + 0.8 + 0.9 + 3 + 1)
    first, second = 1 - (2 * 0.6 + 1) / (1.1 + 1 + 1), 1 - (2 * 0.5 + 1) / (0.7 + 1 + 1)
    assert loss == pytest.approx(cross_entropy + (any_defect + (first + second) / 2) / 2, abs=1e-5)
    # Which of the classes it is taken for makes no difference.
    likely[0, 1, 1] = [0.1, 0.1, 0.8]
    again = float(classes_loss(ops.array(truth, "float32"), ops.array(likely, "float32")))
    assert again == pytest.approx(loss, abs=1e-5)


def test_a_label_alone_is_judged_by_the_most_likely_pixels():
    probability = np.full((3, 50, 40), 0.1, np.float32)
    probability[0, 7, 3], probability[0, 30, 20], probability[1] = 0.8, 0.6, 0.9
    # 0.1 % of 2000 pixels are two.
    seen = np.ones((3, 50, 40), np.float32)
    seen[1] = 0
    loss = float(label_loss(ops.array(probability), ops.array(seen)))
    assert loss == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 3, abs=1e-5)
    # What is seen where nothing counts says nothing.
    seen[0, :10] = 0
    loss = float(label_loss(ops.array(probability), ops.array(seen)))
    assert loss == pytest.approx(-(np.log(0.35) + np.log(0.1)) / 3, abs=1e-5)
    assert float(label_loss(ops.array(probability), ops.zeros((3, 50, 40)))) == 0
    assert float(label_loss(ops.zeros((0, 50, 40)), ops.zeros((0, 50, 40)))) == 0
