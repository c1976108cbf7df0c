"""The loop over the epochs, on a small network: the same again, early ends, and other ways to train."""

import re

import keras
import numpy as np
import pytest
from small_network import IMAGING, make_splits, same

from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.errors import SettingsError
from defectline.components.train import loop
from defectline.components.train.backend.devices import policy
from defectline.components.train.loop import Progress, fit
from defectline.components.train.progress.checkpoints import Checkpoints
from defectline.components.train.settings import TrainSettings


def test_a_long_epoch_is_told_of_on_its_way(capsys):
    progress = Progress("train", epochs=2, steps=3, every_s=0)
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for step in range(3):
            progress.on_train_batch_end(step, {"loss": 1 / (step + 1)})
        progress.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25, "val_iou": 0.125})
    said = [line.partition(" of 2, ")[2] for line in capsys.readouterr().out.splitlines()]
    whole = "loss 0.500, validation loss 0.250, IoU 0.12"
    # The first step compiles, and the end of the first epoch: neither tells how long the others take.
    first, second, end, *others = [re.sub(r", \d+ s left$", ", TIME", line) for line in said]
    assert (first, second, end) == ("step 1 of 3, loss 1.000", "step 2 of 3, loss 0.500, TIME", whole)
    assert others == ["step 1 of 3, loss 1.000, TIME", "step 2 of 3, loss 0.500, TIME", whole]


@pytest.mark.usefixtures("small")
def test_two_trainings_are_the_same_and_another_seed_is_not(splits):
    (a, one), (b, two), (c, other) = (
        fit(splits, IMAGING, TrainSettings(epochs=2, seed=seed)) for seed in (0, 0, 1)
    )
    assert same(a, b)
    assert one == two != other
    assert not same(a, c)
    assert {weight.dtype for weight in a.weights} == {"float32"}


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_no_number_stops_at_its_step(splits, store, monkeypatch):
    settings = TrainSettings(epochs=3, schedule="constant", warmup=0)
    step = loop.Trainer.compute_loss

    def poisoned(self, *args, **kwargs):
        # Two batches an epoch: the second of the second epoch.
        ruined = keras.ops.equal(self.optimizer.iterations, 3) if kwargs.get("training") else False
        return keras.ops.where(ruined, float("nan"), step(self, *args, **kwargs))

    def remember(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = poisoned(self, x, y, y_pred, sample_weight, training=training)
        self.loss_mean.update_state(loss)
        return loss

    monkeypatch.setattr(loop.Trainer, "compute_loss", remember)
    with pytest.raises(SettingsError, match="epoch 2, after step 2 of 2") as caught:
        fit(splits, IMAGING, settings, checkpoints=Checkpoints(store, "one"))
    assert "learning_rate, which is 0.002" in caught.value.fix
    assert [found.key for found in store.list()] == ["checkpoints/one/epoch-00001.npz"]


@pytest.mark.usefixtures("small")
def test_training_stops_when_nothing_gets_better(splits):
    settings = TrainSettings(epochs=30, patience=2, learning_rate=1e-12)
    _, history = fit(splits, IMAGING, settings)
    best = max(history, key=lambda row: row["val_iou"])
    assert len(history) == best["epoch"] + 2 < 30
    # Patience counts from the epoch that unfreezes.
    settings = TrainSettings(
        epochs=30, patience=2, learning_rate=1e-12, freeze_encoder_until="Conv1", unfreeze_at_epoch=5
    )
    assert len(fit(splits, IMAGING, settings)[1]) >= 7


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("iou", [0.0, 0.5])
def test_it_says_while_it_trains_that_it_does_not_learn(splits, capsys, monkeypatch, iou):
    monkeypatch.setattr(loop.Trainer, "get_metrics_result", lambda _: {"loss": 1.0, "iou": iou})
    fit(splits, IMAGING, TrainSettings(epochs=5))
    warning = (
        "train: WARNING: The network did not begin to learn: validation IoU below 0.01 in each of 3 epochs"
    )
    assert capsys.readouterr().out.count(warning) == (0 if iou else 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fields", [{"optimizer": "sgd"}, {"precision": "float16"}, {"schedule": "constant"}])
def test_other_ways_to_train(splits, fields):
    settings = TrainSettings(epochs=2, learning_rate=0.01, **fields)
    seen = []

    class Look:
        def log(self, row):
            seen.append(row["loss"])

    fit(splits, IMAGING, settings, policy(settings.precision), trackers=[Look()])
    assert seen[1] < seen[0]
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.usefixtures("small")
def test_several_classes_are_learned_and_a_training_goes_on(store):
    classes = ("bright", "dark")
    splits = make_splits(kinds=2)
    settings = TrainSettings(epochs=30, learning_rate=0.02, warmup=0)
    whole, history = fit(splits, IMAGING, settings, classes=classes)
    assert history[-1]["val_iou"] > 0.5
    assert whole.output_shape[-1] == 3
    kept = Checkpoints(store, "one")
    short = settings.model_copy(update={"epochs": 2, "schedule": "constant"})
    fit(splits, IMAGING, short, checkpoints=kept, classes=classes)
    long = short.model_copy(update={"epochs": 4})
    on, rows = fit(splits, IMAGING, long, checkpoints=kept, classes=classes)
    again, same_rows = fit(splits, IMAGING, long, classes=classes)
    assert rows == same_rows
    assert same(on, again)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("masked", [0, 2])
def test_defects_are_found_from_labels_alone(splits, masked):
    """Of five pictures with a bright square, as many as `masked` have a mask."""
    whole = splits["train"]
    images, masks = (np.concatenate(part.parts) for part in (whole.images, whole.masks))
    unmasked = np.array([number % 2 == 0 and number // 2 >= masked for number in range(9)])
    hidden = masks.copy()
    hidden[unmasked] = 0
    arrays = ConcatenatedArray([images]), ConcatenatedArray([hidden])
    parts = {
        name: Split(*arrays, split.rows, unmasked, outlined=bool(masked and name == "train"))
        for name, split in splits.items()
    }
    settings = TrainSettings(epochs=40, learning_rate=0.02, warmup=0)
    network, history = fit(parts, IMAGING, settings, ignores=True)
    assert {"val_iou" in row for row in history} == {False}
    assert {"iou" in row for row in history} == {bool(masked)}
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    likely = network.predict(images, verbose=0)[..., 1]
    assert likely[masks == 1].mean() > 4 * likely[masks == 0].mean()
