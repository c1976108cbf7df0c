"""The loop over the epochs: what is kept after each, when it stops, and where it goes on."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.dataset import Split
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.steps import say
from defectline.components.train.backend.devices import enable_determinism, replicate
from defectline.components.train.backend.distributed import explained, gather, place
from defectline.components.train.backend.fused import fuse
from defectline.components.train.batches import Batches, Painting
from defectline.components.train.network import build_network, freeze_encoder
from defectline.components.train.optimizer import make_optimizer, transfer_state
from defectline.components.train.progress.checkpoints import Arrays, Checkpoint, Checkpoints
from defectline.components.train.progress.history import advise, best_epoch
from defectline.components.train.progress.tracking import Tracker
from defectline.components.train.settings import TrainSettings
from defectline.components.train.trainer import Trainer
from defectline.components.train.weights import load_network, take_over


class Stage(NamedTuple):
    """What differs between learning from labels and learning from synthetic defects before."""

    name: str = "train"
    """What progress is told of."""
    train: Painting | None = None
    validation: Painting | None = None
    start: Arrays | None = None
    """Weights of a network with DEFAULT_CLASSES that training goes on from."""


TRAINING_STAGE = Stage()


class TrainingState(keras.callbacks.Callback):
    """What training has come to. After each epoch: a row of values, the best weights, and a checkpoint."""

    def __init__(
        self,
        settings: TrainSettings,
        batches: Batches,
        checkpoints: Checkpoints | None,
        trackers: Sequence[Tracker],
        unknown: Collection[str] = (),
        stage: Stage = TRAINING_STAGE,
    ):
        super().__init__()
        self.stage = stage
        self.unknown = unknown
        """Values that say nothing, because no picture has a mask to take them over."""
        self.settings, self.batches, self.checkpoints, self.trackers = (
            settings,
            batches,
            checkpoints,
            trackers,
        )
        self.history: list[dict[str, float]] = []
        self.best: Arrays = []
        """The network's weights at the best epoch."""

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or too many without a better validation IoU."""
        last = len(self.history)
        if not last or last >= self.settings.epochs:
            return bool(last)
        # What is learned after the encoder is unfrozen gets its time, however long nothing got better before.
        since = max(int(best_epoch(self.history)["epoch"]), self.settings.unfreeze_at_epoch)
        return last - since >= self.settings.patience

    def resume(self, saved: Checkpoint) -> None:
        """Put trainer, optimizer, random state and history to where a checkpoint was taken."""
        network, rest = _variables(self.model)
        for variables, arrays in ((network, saved.network), (rest, saved.rest)):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self.history, self.best = list(saved.history), saved.best
        for tracker in self.trackers:
            for row in self.history:
                tracker.log(row)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.shuffle(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._check_finite(logs or {}, f"after step {batch + 1} of {len(self.batches)}")

    def on_epoch_end(self, epoch, logs=None):
        self._check_finite(logs or {}, "in validation")
        known = {name: value for name, value in (logs or {}).items() if name not in self.unknown}
        row = {name: round(float(value), 5) for name, value in known.items()}
        self.history.append({"epoch": epoch + 1, **row})
        network, rest = _variables(self.model)
        if best_epoch(self.history) is self.history[-1]:
            self.best = [np.array(variable) for variable in network]
        if self.checkpoints and place().first:
            self.checkpoints.save(self.history, network, rest)
        for tracker in self.trackers:
            tracker.log(self.history[-1])
        self.model.stop_training = self.done
        # Early enough to be stopped, and late enough for random weights to have begun.
        quarter = len(self.history) == max(3, self.settings.epochs // 4)
        known = {
            "synthetic": self.stage.name != TRAINING_STAGE.name,
            "pretrained": self.stage.start is not None,
        }
        if quarter and not self.done and (advice := advise(self.history, **known)):
            say(f"{self.stage.name}: WARNING: {advice}")

    def _check_finite(self, logs: Mapping[str, float], when: str) -> None:
        for name, value in logs.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise SettingsError(
                    f"Training diverged in epoch {len(self.history) + 1}, {when}.",
                    got=f"{name} {float(value)}",
                    expected="a finite number",
                    fix=f"Lower learning_rate, which is {self.settings.learning_rate:g}, or set "
                    "precision=float32.",
                )


class Progress(keras.callbacks.Callback):
    """Says how training goes every few seconds, at the end of an epoch or within a long one."""

    def __init__(self, name: str, epochs: int, steps: int, every_s: float = 10.0, outlined: bool = True):
        super().__init__()
        self.name, self.epochs, self.steps = name, epochs, steps
        self.every_s, self.outlined = every_s, outlined
        self.start, self.last, self.done, self.epoch = 0.0, 0.0, 0, 0
        """When the steps began that say how long the others take, and how many of them are over."""
        self.compiled = False

    def on_train_begin(self, logs=None):
        say(f"{self.name}: compiling the network with the first step")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.start and not self.compiled:
            # The first epoch compiles the validation as well.
            self.start, self.done, self.compiled = time.monotonic(), 0, True

    def on_train_batch_end(self, batch, logs=None):
        if self.start:
            self.done += 1
        else:
            # The first step compiles.
            self.start = time.monotonic()
        # Three times as patient as at the end of an epoch, which says more.
        if batch + 1 < self.steps and time.monotonic() - max(self.last, self.start) >= 3 * self.every_s:
            self._say(f"step {batch + 1} of {self.steps}, loss {float((logs or {})['loss']):.3f}", batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self.last >= self.every_s:
            values = f"loss {logs['loss']:.3f}, validation loss {logs['val_loss']:.3f}"
            self._say(f"{values}, IoU {logs['val_iou']:.2f}" if self.outlined else values, self.steps)

    def _say(self, values: str, steps: int) -> None:
        """`steps` of the present epoch are over."""
        self.last = time.monotonic()
        left = (self.epochs - self.epoch) * self.steps - steps
        if left and self.done and (self.compiled or steps < self.steps):
            values += f", {(self.last - self.start) / self.done * left:.0f} s left"
        say(f"{self.name}: epoch {self.epoch + 1} of {self.epochs}, {values}")


def fit(
    splits: dict[str, Split],
    imaging: ImagingSettings,
    settings: TrainSettings,
    policy: str = "float32",
    checkpoints: Checkpoints | None = None,
    trackers: Sequence[Tracker] = (),
    classes: Sequence[str] = DEFAULT_CLASSES,
    ignores: bool = False,
    stage: Stage = TRAINING_STAGE,
) -> tuple[keras.Model, list[dict]]:
    """Train a network in a Keras dtype `policy`, from the last checkpoint on where there is one.

    `ignores` says whether the masks may hold what does not count, `stage` where it starts and what it paints.

    Returns it with its best weights, in float32, and one row of values an epoch; in each of the processes
    that train together the same. Raises SettingsError where the loss is not a number any more, StoreError
    where a checkpoint cannot be written, and ProcessLost where another process ended.
    """
    keras.utils.set_random_seed(settings.seed)
    enable_determinism()
    replicas = replicate(settings.batch_size)
    share = replicas.share
    batches = Batches(splits["train"], settings.batch_size, settings.seed, stage.train, settings.jpeg, share)
    validation = Batches(splits["validation"], settings.batch_size, painting=stage.validation, share=share)
    ious = (("iou", splits["train"], stage.train), ("val_iou", splits["validation"], stage.validation))
    unknown = {name for name, split, painting in ious if not (split.outlined or painting)}
    state = TrainingState(settings, batches, checkpoints, trackers, unknown, stage)
    with explained(), _dtype_policy(policy), replicas.scope:
        network = fuse(_start(imaging, settings, classes, stage.start))
        ignores = ignores or stage.train is not None
        trainer = Trainer(network, settings.seed, replicas.number, ignores, settings, share.devices > 1)
        saved = _load(checkpoints) if checkpoints else None
        # The layout of a checkpoint is that of the last epoch before it.
        _compile(trainer, settings, len(batches), epoch=len(saved.history) - 1 if saved else 0)
        state.set_model(trainer)
        if saved:
            state.resume(saved)
            say(f"{stage.name}: going on after epoch {len(saved.history)} of {settings.epochs}")
        progress = Progress(stage.name, settings.epochs, len(batches), outlined="val_iou" not in unknown)
        unfreeze = settings.unfreeze_at_epoch - 1
        for end in (unfreeze, settings.epochs):
            start = len(state.history)
            if state.done or not start < end <= settings.epochs:
                continue
            if start == unfreeze > 0:
                _compile(trainer, settings, len(batches), epoch=start)
            trainer.fit(
                batches,
                validation_data=validation,
                initial_epoch=start,
                epochs=end,
                callbacks=[progress, state],
                # They have been shuffled; Keras would shuffle them by Python's own random state.
                shuffle=False,
                verbose=0,
            )
    network = build_network(
        imaging.image_size,
        imaging.channels,
        settings.batch_norm_momentum,
        classes=classes,
        decoder=settings.decoder,
        encoder_width=settings.encoder_width,
    )
    network.set_weights(state.best)
    return network, state.history


def _load(checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint that all processes go on from: the last one that the first of them can read."""
    saved = checkpoints.load() if place().first else None
    epoch = gather(len(saved.history) if saved else 0)[0]
    return saved if place().first else checkpoints.read(epoch) if epoch else None


def _start(
    imaging: ImagingSettings, settings: TrainSettings, classes: Sequence[str], pretrained: Arrays | None
) -> keras.Model:
    network = build_network(
        imaging.image_size,
        imaging.channels,
        settings.batch_norm_momentum,
        settings.encoder_weights,
        classes,
        settings.decoder,
        settings.encoder_width,
    )
    if settings.init_from != "none":
        load_network(network, settings.init_from, classes)
    elif pretrained is not None:
        take_over(network, pretrained)
    return network


def _compile(trainer: Trainer, settings: TrainSettings, steps_per_epoch: int, epoch: int) -> None:
    """Freeze what is frozen in the epoch with this index, and give the trainer an optimizer of the rest.

    An optimizer that it had hands over its state.
    """
    unfrozen = settings.unfreeze_at_epoch and epoch >= settings.unfreeze_at_epoch - 1
    freeze_encoder(trainer.network, "" if unfrozen else settings.freeze_encoder_until)
    old = getattr(trainer, "optimizer", None)
    trainer.compile(
        optimizer=make_optimizer(settings, steps_per_epoch),
        jit_compile=keras.backend.backend() == "jax",
    )
    trainer.optimizer.build(trainer.trainable_variables)
    if old is not None:
        transfer_state(old, trainer.optimizer)


def _variables(trainer: Trainer) -> tuple[list, list]:
    """All that a training goes on from: the network's weights, and everything else."""
    network = trainer.network.weights
    known = {id(variable) for variable in network}
    others = [v for v in [*trainer.variables, *trainer.optimizer.variables] if id(v) not in known]
    return network, others


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Make layers in this policy, and in float32 again afterwards."""
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")
