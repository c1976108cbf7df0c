"""What a network learns from, by what the source has."""

import numpy as np
import pytest
from small_network import IMAGING, build_small, make_splits

from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.errors import SettingsError
from defectline.components.train import learning
from defectline.components.train.settings import TrainSettings

SETTINGS = TrainSettings(epochs=1, pretraining_steps=2)


def prepare(labels: str, classes: tuple[str, ...] = ("defect",)) -> Prepared:
    """A letter a picture, of which the last three validate: g good, d defective, u that without a mask."""
    rows = [
        Row(
            id=f"{i}",
            label="OK" if letter == "g" else "NG",
            split="train" if i < 6 else "validation",
            masked=letter != "u",
        )
        for i, letter in enumerate(labels)
    ]
    return Prepared(snapshot="s", fingerprint="s", imaging=IMAGING, rows=rows, classes=classes)


@pytest.fixture
def fitted(monkeypatch, small) -> list[dict]:
    """What was given to each call of fit, which really trains."""
    calls: list[dict] = []
    fit = learning.fit

    def watched(splits, *args, **kwargs):
        calls.append({"splits": splits, "stage": args[-1]})
        return fit(splits, *args, **kwargs)

    monkeypatch.setattr(learning, "fit", watched)
    monkeypatch.setattr(learning, "build_network", build_small)
    return calls


def learn(prepared: Prepared, settings: TrainSettings = SETTINGS, store=None) -> learning.Learned:
    splits = make_splits(len(prepared.classes))
    return learning.learn(splits, prepared, settings, "float32", 1, store, None, [])


def test_good_pictures_alone_are_enough(fitted, store):
    learned = learn(prepare("gggggg" + "ggg"), SETTINGS.model_copy(update={"pretraining": "none"}), store)
    assert not fitted
    assert store.exists(learned.pretrained)
    assert learned.history[0]["val_loss"] > 0
    # The next night finds the weights, and how they came to be.
    again = learn(prepare("gggggg" + "ggg"), store=store)
    assert again.history == learned.history
    picture = np.zeros((1, 32, 32, 1), np.float32)
    assert np.array_equal(
        again.network.predict(picture, verbose=0), learned.network.predict(picture, verbose=0)
    )


def test_few_defects_come_after_synthetic_ones(fitted, store):
    learned = learn(prepare("dgdgdg" + "dgd"), store=store)
    (call,) = fitted
    assert call["stage"].start is not None
    assert store.exists(learned.pretrained)
    assert call["stage"].train.good.tolist() == [1, 3, 5]
    assert call["stage"].validation is None
    assert len(learned.history) == 1


def test_the_first_defects_all_train_and_synthetic_ones_choose_the_epoch(fitted):
    learn(prepare("dggggg" + "ggg"))
    (call,) = fitted
    judged = call["splits"]["validation"].rows
    assert judged[:3].tolist() == [6, 7, 8]
    assert set(judged[3:]) == {1, 2, 3, 4, 5}
    assert call["stage"].validation.share == 1
    assert call["stage"].validation.seed != call["stage"].train.seed


def test_synthetic_ones_choose_the_epoch_without_pretraining_too(fitted):
    learn(prepare("dggggg" + "ggg"), SETTINGS.model_copy(update={"pretraining": "none"}))
    (call,) = fitted
    assert call["stage"].train is None
    assert call["stage"].validation.share == 1


@pytest.mark.parametrize("settings", [{"synthetic": 0.0}, {"pretraining": "none"}])
def test_pretraining_may_do_without_rehearsal_but_not_the_other_way_round(fitted, settings):
    learned = learn(prepare("dgdgdg" + "dgd"), SETTINGS.model_copy(update=settings))
    (call,) = fitted
    assert call["stage"].train is None
    assert (call["stage"].start is None) is (settings == {"pretraining": "none"})
    assert bool(learned.pretrained) is (settings != {"pretraining": "none"})


def test_defects_alone_are_learned_as_they_are(fitted, capsys):
    learned = learn(prepare("dddddd" + "ddd"))
    assert fitted[0]["stage"] == learning.Stage()
    assert not learned.pretrained
    assert "no good picture to train on" in capsys.readouterr().out


@pytest.mark.parametrize(("labels", "told"), [("ugugug", "3 of 3"), ("dgugug", "2 of 3")])
def test_defects_without_masks_come_after_synthetic_ones(fitted, capsys, labels, told):
    learned = learn(prepare(labels + "ugu"))
    (call,) = fitted
    assert call["stage"].start is not None
    assert call["stage"].train.good.tolist() == [1, 3, 5]
    assert call["splits"]["validation"].rows.tolist() == [6, 7, 8]
    assert len(learned.history) == 1
    assert f"{told} defective pictures have no mask, but their label" in capsys.readouterr().out


def test_several_classes(fitted):
    learned = learn(prepare("dgdgdg" + "dgd", ("bright", "dark")))
    assert fitted[0]["stage"].train.several
    assert learned.network.output_shape[-1] == 3


def test_nothing_to_learn_from():
    with pytest.raises(SettingsError, match="no picture to train on"):
        learn(Prepared(snapshot="s", fingerprint="s", imaging=IMAGING, rows=prepare("g" * 9).rows[6:]))
