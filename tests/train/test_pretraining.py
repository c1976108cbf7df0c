"""A network that learns synthetic defects in good pictures before it sees a real one."""

import numpy as np
import pytest
from small_network import IMAGING, make_splits

from defectline.components.common.dataset import Prepared, Row
from defectline.components.train import pretraining
from defectline.components.train.pretraining import is_wanted, pretrain
from defectline.components.train.settings import FEW_DEFECTS, TrainSettings

SETTINGS = TrainSettings(pretraining_steps=4)


def prepare(snapshot: str = "s", classes: tuple[str, ...] = ("defect",)) -> Prepared:
    """The small splits, of whose training part three pictures are good."""
    rows = [
        Row(id=f"{number}", label="OK" if number % 2 else "NG", split="train" if number < 6 else "validation")
        for number in range(9)
    ]
    return Prepared(snapshot=snapshot, fingerprint=snapshot, imaging=IMAGING, rows=rows, classes=classes)


GOOD = np.array([1, 3, 5])


def learned(store, settings: TrainSettings = SETTINGS, **changes) -> pretraining.Pretrained:
    return pretrain(make_splits(), prepare(**changes), GOOD, settings, "float32", 1, store)


@pytest.mark.parametrize(
    ("settings", "good", "marked", "wanted"),
    [
        ({}, 20, FEW_DEFECTS - 1, True),
        ({}, 20, FEW_DEFECTS, False),
        ({}, 0, 5, False),
        ({"pretraining": "always"}, 20, 1000, True),
        ({"pretraining": "none"}, 20, 5, False),
        ({"init_from": "model.keras"}, 20, 5, False),
    ],
)
def test_where_it_is_wanted(settings, good, marked, wanted):
    assert is_wanted(TrainSettings(**settings), good, marked) is wanted


@pytest.mark.usefixtures("small")
def test_it_is_done_once_for_the_same_good_pictures(store, capsys):
    first = learned(store)
    assert len(first.history) == 1
    assert not [found.key for found in store.list("checkpoints/")]
    capsys.readouterr()
    # Other defects, another snapshot and other classes do not matter to it, nor how training itself goes.
    other = SETTINGS.model_copy(update={"epochs": 3, "synthetic": 0.5, "patience": 2})
    again = learned(store, other, snapshot="t", classes=("a", "b"))
    assert "was learned from the same good pictures" in capsys.readouterr().out
    assert (again.key, again.history) == (first.key, first.history)
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert learned(store, SETTINGS.model_copy(update={"seed": 1})).key != first.key


@pytest.mark.usefixtures("small")
def test_it_ends_in_the_same_weights_without_a_store(store):
    first, again = learned(store), learned(None)
    assert again.key == first.key
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))


@pytest.mark.usefixtures("small")
def test_what_is_damaged_is_learned_again(store, capsys):
    first = learned(store)
    store.write(first.key, b"cut short")
    again = learned(store)
    assert "is damaged and not used" in capsys.readouterr().out
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert len(store.read(first.key)) > 1000


@pytest.mark.usefixtures("small")
def test_it_goes_on_where_it_was_cut_off(store, monkeypatch):
    whole = learned(None, SETTINGS.model_copy(update={"pretraining_steps": 150}))
    saved = pretraining.Checkpoints.save

    def cut(self, history, network, rest):
        saved(self, history, network, rest)
        if len(history) == 2:
            raise KeyboardInterrupt

    long = SETTINGS.model_copy(update={"pretraining_steps": 150})
    with monkeypatch.context() as patched:
        patched.setattr(pretraining.Checkpoints, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            learned(store, long)
    again = learned(store, long)
    assert len(again.history) == len(whole.history) == 3
    assert all(np.array_equal(a, b) for a, b in zip(whole.weights, again.weights, strict=True))


@pytest.mark.usefixtures("small")
def test_held_out_pictures_are_not_learned_from(store, monkeypatch):
    seen = {}

    def look(splits, *args, **kwargs):
        seen.update(splits=splits, stage=kwargs["stage"])
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "fit", look)
    with pytest.raises(KeyboardInterrupt):
        learned(store)
    assert set(seen["splits"]["train"].rows) | set(seen["splits"]["validation"].rows) == set(GOOD)
    assert not set(seen["splits"]["train"].rows) & set(seen["splits"]["validation"].rows)
    assert set(seen["stage"].train.good) == set(seen["splits"]["train"].rows)
    assert set(seen["stage"].validation.good) == set(seen["splits"]["validation"].rows)
