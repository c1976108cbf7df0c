"""Learning rates, and what an optimizer hands over when more is trained."""

import numpy as np
from small_network import build_small

from defectline.components.train import loop
from defectline.components.train.batches import Batches
from defectline.components.train.optimizer import Schedule
from defectline.components.train.settings import TrainSettings


def rates(schedule: Schedule, *steps: int) -> list[float]:
    return [round(float(schedule(step)), 4) for step in steps]


def test_schedules():
    assert rates(Schedule(2, 100, 10), 0, 5, 10, 55, 100, 120) == [0, 1, 2, 1, 0, 0]
    assert rates(Schedule(2, 100, 0, cosine=False), 0, 50, 99) == [2, 2, 2]
    assert rates(Schedule(2, 100, 10, cosine=False, unfreeze=50), 49, 50, 55, 60) == [2, 0, 1, 2]


def test_frozen_layers_stay_and_the_optimizer_keeps_its_state_at_the_thaw(splits):
    settings = TrainSettings(freeze_encoder_until="bn_Conv1", unfreeze_at_epoch=2)
    trainer = loop.Trainer(build_small(32), seed=0)
    loop._compile(trainer, settings, 2, epoch=0)
    encoder = trainer.network.get_layer("encoder")
    frozen = [w for name in ("Conv1", "bn_Conv1") for w in encoder.get_layer(name).weights]
    free = encoder.get_layer("block_1_project").kernel
    before, moved = [w.numpy() for w in frozen], free.numpy()
    batch = Batches(splits["train"], 4, 0)[0][0]
    for _ in range(2):
        trainer.train_on_batch(batch)
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, frozen, strict=True))
    assert not np.array_equal(moved, free.numpy())
    old = {v.path: v.numpy() for v in trainer.optimizer.variables}
    loop._compile(trainer, settings, 2, epoch=1)
    new = {v.path: v.numpy() for v in trainer.optimizer.variables}
    assert len(new) > len(old)
    assert all(np.array_equal(new[path], value) for path, value in old.items())
    # The rate rises from zero again, so that the first step after unfreezing moves nothing.
    for _ in range(3):
        trainer.train_on_batch(batch)
    assert all(not np.array_equal(a, w.numpy()) for a, w in zip(before, frozen, strict=True))
