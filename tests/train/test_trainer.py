"""What happens on the device in a step."""

import keras
import numpy as np
import pytest
from keras import ops
from small_network import build_small

from defectline.components.common.classes import FILLER, IGNORE
from defectline.components.train import loop
from defectline.components.train.loss import cross_entropy_and_dice
from defectline.components.train.settings import TrainSettings
from defectline.components.train.trainer import Trainer


def test_float16_scales_its_loss(splits):
    with loop._dtype_policy("mixed_float16"):
        trainer = loop.Trainer(build_small(32), seed=0)
        loop._compile(trainer, TrainSettings(), 2, epoch=0)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)


def test_the_metric_is_the_overlap_of_the_defect_alone():
    trainer = Trainer(build_small(32), seed=0)
    mask, probability = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    mask[0, 0], probability[0, 0, :2], probability[0, 3, 3] = 1, 0.9, 0.9
    found = trainer.compute_metrics(None, None, (ops.array(probability), ops.array(mask)))
    # Two of four are found, and one pixel too many.
    assert float(found["iou"]) == pytest.approx(2 / 5)


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_share_the_loss(replicas):
    mask, probability = ops.array(np.eye(4, dtype=np.float32)[None]), ops.full((1, 4, 4), 0.25)
    whole = float(cross_entropy_and_dice(mask, probability))
    trainer = Trainer(build_small(32), seed=0, replicas=replicas)
    assert float(trainer.compute_loss(y_pred=(probability, mask))) == pytest.approx(whole / replicas)


def test_what_does_not_count_is_no_part_of_the_metric():
    mask, probability = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    mask[0, 0], mask[0, 1], probability[0, :2] = 1, 255, 0.9
    trainer = Trainer(build_small(32), seed=0, ignores=True)
    given = ops.array(probability), ops.array(mask)
    trainer.compute_loss(y_pred=given)
    assert float(trainer.compute_metrics(None, None, given)["iou"]) == pytest.approx(1)


def test_the_metric_of_several_classes_is_the_mean_of_theirs():
    mask, answer = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.int64)
    mask[0, 0], mask[0, 1], mask[0, 2] = 1, 2, 255
    answer[0, 0, :2], answer[0, 1], answer[0, 2] = 1, 2, 2
    trainer = Trainer(build_small(32, classes=("scratch", "dent")), seed=0)
    found = trainer.compute_metrics(None, None, (ops.one_hot(answer, 3), ops.array(mask)))
    assert float(found["iou"]) == pytest.approx((2 / 4 + 1) / 2)


def test_a_defect_of_no_class_is_no_part_of_the_metric():
    mask, answer = np.full((1, 4, 4), 254, np.float32), np.zeros((1, 4, 4), np.int64)
    mask[0, 0], answer[0, 0], answer[0, 1] = 1, 1, 2
    trainer = Trainer(build_small(32, classes=("scratch", "dent")), seed=0, ignores=True)
    found = trainer.compute_metrics(None, None, (ops.one_hot(answer, 3), ops.array(mask)))
    assert float(found["iou"]) == pytest.approx(1)


@pytest.mark.parametrize("classes", [("defect",), ("scratch", "dent")])
def test_of_a_picture_without_a_mask_the_label_alone_is_in_the_loss(classes):
    trainer = Trainer(build_small(32, classes=classes), seed=0, ignores=True)
    mask = np.zeros((2, 8, 8), np.float32)
    mask[0, 0], mask[1] = 1, 255
    good = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    both = np.stack([good, *[(1 - good) / len(classes)] * len(classes)], axis=-1)
    answer = ops.array(both if len(classes) > 1 else 1 - good)
    given = answer, ops.array(mask)
    without = float(trainer.compute_loss(y_pred=given))
    seen = np.zeros((2, 8, 8), np.float32)
    assert float(trainer.compute_loss(y_pred=(*given, ops.array(seen)))) == pytest.approx(without)
    seen[1] = 1
    label = -np.log(1 - good[1].min()) / 2
    assert float(trainer.compute_loss(y_pred=(*given, ops.array(seen)))) == pytest.approx(
        without + label, abs=1e-5
    )
    assert trainer.compute_metrics(None, None, (*given, ops.array(seen))).keys() == {"loss", "iou"}


def test_of_a_picture_without_a_mask_nothing_counts_but_its_label_where_a_defect_would():
    trainer = Trainer(build_small(32), seed=0, ignores=True)
    images, masks = np.zeros((2, 32, 32, 1), np.uint8), np.zeros((2, 32, 32), np.uint8)
    masks[:, :10] = 255
    masks[0, 20:25] = 1
    _, mask, seen = trainer((images, masks, np.array([False, True])))
    assert np.array_equal(mask[0], masks[0])
    assert (np.array(mask[1]) == 255).all()
    assert not np.array(seen)[0].any()
    assert np.array_equal(seen[1], masks[1] == 0)


@pytest.mark.parametrize("kinds", [1, 2])
def test_what_fills_up_a_batch_has_no_part_in_anything(kinds):
    random = np.random.default_rng(0)
    shape = (3, 4, 4) if kinds == 1 else (3, 4, 4, 3)
    probability = random.uniform(0.1, 0.9, shape).astype(np.float32)
    mask = random.integers(0, kinds + 1, (3, 4, 4)).astype(np.float32)
    seen = np.zeros((3, 4, 4), np.float32)
    seen[1] = 1
    mask[1] = IGNORE
    filler = [np.concatenate([array, array[:1]]) for array in (probability, mask, seen)]
    filler[1][3], filler[2][3] = FILLER, 0

    def judged(arrays: list[np.ndarray], fills: bool) -> list[float]:
        classes = ("defect",) if kinds == 1 else ("bright", "dark")
        trainer = Trainer(build_small(32, classes=classes), seed=0, ignores=True, fills=fills)
        given = tuple(map(ops.array, arrays))
        loss = float(trainer.compute_loss(y_pred=given))
        metrics = trainer.compute_metrics(None, None, given)
        return [loss, float(metrics["loss"]), float(metrics["iou"]), float(trainer.loss_mean.count)]

    whole = judged([probability, mask, seen], False)
    assert whole[-1] == 3
    assert judged(filler, True) == pytest.approx(whole, rel=1e-6)
    assert judged([probability, mask, seen], True) == pytest.approx(whole, rel=1e-6)
