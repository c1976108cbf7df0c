"""Weights to start from."""

from pathlib import Path

import keras
import numpy as np
import pytest
from small_network import build_small, same

from defectline.components.common.errors import SettingsError
from defectline.components.train import weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A small network, and the folder of a.keras and a.weights.h5 of it."""
    folder, network = tmp_path_factory.mktemp("saved"), build_small(32)
    network.save(folder / "a.keras")
    network.save_weights(folder / "a.weights.h5")
    return network, folder


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_starting_from_a_whole_network(saved, name):
    network, folder = saved
    other = build_small(64)
    digest = weights.sha256_file(folder / name)
    weights.load_network(other, f"{folder / name}#sha256={digest}")
    assert same(network, other)
    weights.load_network(other, f"{(folder / name).as_uri()}")


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
@pytest.mark.parametrize("change", ["name", "shape"])
def test_starting_from_another_network_is_refused(tmp_path, saved, kind, change):
    network = keras.models.clone_model(saved[0], clone_function=lambda layer: _other(layer, change))
    file = tmp_path / f"b.{kind}"
    network.save(file) if kind == "keras" else network.save_weights(file)
    with pytest.raises(SettingsError, match="do not fit") as caught:
        weights.load_network(build_small(32), str(file))
    assert "logits" in caught.value.got


def _other(layer: keras.Layer, change: str) -> keras.Layer:
    config = layer.get_config()
    if layer.name == "logits":
        config |= {"name": "answers"} if change == "name" else {"kernel_size": (5, 5)}
    return type(layer).from_config(config)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("{folder}/none.keras", "missing"),
        ("{folder}/a.keras#sha256=" + "0" * 64, "not the one"),
        ("{folder}/notes.txt", "do not fit"),
        ("{folder}/broken.keras", "do not fit"),
        ("{folder}/broken.weights.h5", "do not fit"),
    ],
)
def test_a_file_to_start_from_that_is_wrong(saved, reference, says):
    folder = saved[1]
    for name in ("notes.txt", "broken.keras", "broken.weights.h5"):
        (folder / name).write_text("no weights")
    with pytest.raises(SettingsError, match=says):
        weights.load_network(build_small(32), reference.format(folder=folder))


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_weights_of_other_classes_give_all_but_the_last_layer(saved, name, capsys):
    network, folder = saved
    other = build_small(32, classes=("scratch", "dent", "stain"))
    before = other.get_layer("logits").get_weights()
    weights.load_network(other, str(folder / name))
    assert (
        f"{name} knows other classes, or does not name them: its last layer is learned from the start"
        in capsys.readouterr().out
    )
    for own, kept in zip(other.get_layer("logits").get_weights(), before, strict=True):
        assert (own == kept).all()
    own, given = (model.get_layer("encoder") for model in (other, network))
    assert same(own, given)


def outputs_of(network: keras.Model) -> list[tuple]:
    """The weights of each output, from good on."""
    last = network.get_layer("logits")
    kernel, bias = last.get_weights()
    kernels = np.moveaxis(kernel, 2 if isinstance(last, keras.layers.Conv2DTranspose) else 3, 0)
    return [(*one.ravel(), own) for one, own in zip(kernels, bias, strict=True)]


@pytest.fixture(scope="module", params=["small", "transposed"])
def decoder(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def of_three(decoder, tmp_path_factory) -> tuple[list[tuple], Path]:
    """The outputs of a network for dent, scratch and stain; the folder of its c.keras and c.weights.h5."""
    folder, classes = tmp_path_factory.mktemp("three"), ("dent", "scratch", "stain")
    network = build_small(32, classes=classes, decoder=decoder)
    kernel, bias = network.get_layer("logits").get_weights()
    network.get_layer("logits").set_weights([kernel, np.add(bias, [1, 2, 3, 4])])
    weights.save_network(network, folder / "c.keras", classes)
    network.save_weights(folder / "c.weights.h5")
    return outputs_of(network), folder


@pytest.mark.parametrize(
    ("classes", "taken", "says"),
    [
        (("dent", "scratch", "stain"), [0, 1, 2, 3], ""),
        (("stain", "dent", "scratch"), [0, 3, 1, 2], "taken from it by name: stain, dent, scratch\n"),
        (("stain", "hole", "dent"), [0, 3, None, 1], "by name: stain, dent; learned from the start: hole"),
        (("scratch", "dent"), [0, 2, 1], "taken from it by name: scratch, dent\n"),
        (("scratch",), [0, 2], "taken from it by name: scratch\n"),
        (("dent", "hole", "scratch", "stain"), [0, 1, None, 2, 3], "learned from the start: hole"),
        (("hole", "burr", "rust"), [None] * 4, "its last layer is learned from the start"),
        (("defect",), [None] * 2, "its last layer is learned from the start"),
    ],
)
def test_outputs_are_taken_by_the_names_of_classes(of_three, decoder, capsys, classes, taken, says):
    given, folder = of_three
    network = build_small(32, classes=classes, decoder=decoder)
    before = outputs_of(network)
    weights.load_network(network, str(folder / "c.keras"), classes)
    wanted = [own if there is None else given[there] for own, there in zip(before, taken, strict=True)]
    assert outputs_of(network) == wanted
    said = capsys.readouterr().out
    assert says in said if says else not said


def test_weights_without_names_give_no_output_of_several_classes(of_three, decoder, capsys):
    classes = ("dent", "scratch", "stain")
    network = build_small(32, classes=classes, decoder=decoder)
    before = outputs_of(network)
    weights.load_network(network, str(of_three[1] / "c.weights.h5"), classes)
    assert outputs_of(network) == before
    assert "does not name them" in capsys.readouterr().out


def test_several_classes_start_from_one():
    one, three = build_small(32), build_small(32, classes=("a", "b", "c"))
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1)).astype(np.float32)
    weights.take_over(three, one.get_weights())
    before, after = one.predict(picture, verbose=0), three.predict(picture, verbose=0)
    assert after[..., 0] == pytest.approx(before[..., 0], abs=1e-6)
    assert after[..., 1:] == pytest.approx(np.repeat(before[..., 1:], 3, axis=-1) / 3, abs=1e-6)
    weights.take_over(one, build_small(32).get_weights())
