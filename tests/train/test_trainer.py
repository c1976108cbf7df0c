"""What happens on the device in a step."""

import keras
import numpy as np
import pytest
from keras import ops
from small_network import build_small

from defectline.components.train import loop
from defectline.components.train.settings import TrainSettings
from defectline.components.train.trainer import Augment, Trainer


def test_float16_scales_its_loss(splits):
    with loop._dtype_policy("mixed_float16"):
        trainer = loop.Trainer(build_small(32), seed=0)
        loop._compile(trainer, TrainSettings(), 2, epoch=0)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)


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


def test_the_loss_is_cross_entropy_and_dice_of_the_defect_by_hand():
    trainer = Trainer(build_small(32), seed=0)
    mask, probability = np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 0.25, np.float32)
    mask[0, 0, 0] = 1
    loss = float(trainer.compute_loss(y_pred=(ops.array(probability), ops.array(mask))))
    cross_entropy = -(np.log(0.25) + 3 * np.log(0.75)) / 4
    dice = 1 - (2 * 0.25 + 1) / (1 + 1 + 1)
    assert loss == pytest.approx(cross_entropy + dice, abs=1e-4)


def test_the_metric_is_the_overlap_of_the_defect_alone():
    trainer = Trainer(build_small(32), seed=0)
    mask, probability = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    mask[0, 0], probability[0, 0, :2], probability[0, 3, 3] = 1, 0.9, 0.9
    found = trainer.compute_metrics(None, None, (ops.array(probability), ops.array(mask)))
    # Two of four are found, and one pixel too many.
    assert float(found["iou"]) == pytest.approx(2 / 5)
