"""Optimizer and learning rate, in backend-neutral Keras 3."""

import keras
from keras import ops

from defectline.components.train.backend.fused import FusedAdamW
from defectline.components.train.settings import TrainSettings

NAME = "optimizer"
"""The start of every path of its variables, by which `transfer_state` finds them."""


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise over the first `warm` steps, then half a cosine down to zero, or the same rate.

    From step `unfreeze` on (0: never) it rises once more from zero, over as many steps: what was frozen has
    no moments yet, and Adam's first steps without them are three times as long.
    """

    def __init__(self, highest: float, steps: int, warm: int, cosine: bool = True, unfreeze: int = 0):
        self.highest, self.steps, self.warm = highest, steps, warm
        self.cosine, self.unfreeze = cosine, unfreeze

    def __call__(self, step):
        step = ops.cast(step, "float32")
        share = self._rise(step)
        if self.cosine:
            done = (step - self.warm) / max(1, self.steps - self.warm)
            fall = 0.5 * (1 + ops.cos(3.14159265 * ops.clip(done, 0.0, 1.0)))
            share = ops.where(step < self.warm, share, fall)
        if self.unfreeze:
            share = ops.where(step < self.unfreeze, share, share * self._rise(step - self.unfreeze))
        return self.highest * share

    def _rise(self, step):
        return ops.clip(step / self.warm, 0.0, 1.0) if self.warm else ops.ones_like(step)

    def get_config(self):
        return {
            "highest": self.highest,
            "steps": self.steps,
            "warm": self.warm,
            "cosine": self.cosine,
            "unfreeze": self.unfreeze,
        }


def make_optimizer(settings: TrainSettings, steps_per_epoch: int) -> keras.Optimizer:
    steps = steps_per_epoch * settings.epochs
    schedule = Schedule(
        settings.learning_rate,
        steps,
        warm=max(1, int(steps * settings.warmup)) if settings.warmup else 0,
        cosine=settings.schedule == "cosine",
        unfreeze=steps_per_epoch * (settings.unfreeze_at_epoch - 1) if settings.unfreeze_at_epoch > 1 else 0,
    )
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay, name=NAME
        )
    adamw = FusedAdamW if keras.backend.backend() == "tensorflow" else keras.optimizers.AdamW
    return adamw(schedule, weight_decay=settings.weight_decay, name=NAME)


def transfer_state(old: keras.Optimizer, new: keras.Optimizer) -> None:
    """Copy step counter and moments to an optimizer of more variables; those of the others stay zero."""
    state = {variable.path: variable for variable in old.variables}
    for variable in new.variables:
        if variable.path in state:
            variable.assign(state[variable.path])
