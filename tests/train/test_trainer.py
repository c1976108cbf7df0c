"""What happens on the device in a step."""

import keras
from small_network import build_small

from defectline.components.train import loop
from defectline.components.train.settings import TrainSettings


def test_float16_scales_its_loss(splits):
    with loop._dtype_policy("mixed_float16"):
        trainer = loop.Trainer(build_small(32), seed=0)
        loop._compile(trainer, TrainSettings(), 2, epoch=0)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
