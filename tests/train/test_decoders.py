"""The decoders: what each takes, and that one's weights and settings are not another's."""

from typing import get_args

import keras
import numpy as np
import pytest
from network import multiply_adds
from small_network import IMAGING, make_splits

from defectline.components.common.errors import SettingsError
from defectline.components.train.decoders import DECODERS
from defectline.components.train.loop import fit
from defectline.components.train.network import build_network
from defectline.components.train.settings import DecoderName, TrainSettings
from defectline.components.train.weights import load_network


@pytest.fixture(scope="module")
def networks() -> dict[DecoderName, keras.Model]:
    return {
        name: build_network(32, channels=3, classes=("dent", "scratch"), decoder=name) for name in DECODERS
    }


def test_a_setting_names_each():
    assert list(DECODERS) == list(get_args(DecoderName))


def test_light_takes_less_than_half():
    work = {name: multiply_adds(build_network(224, decoder=name)) for name in DECODERS}
    assert work["light"] < 0.5e9
    assert work["pix2pix"] == pytest.approx(1.19e9, rel=0.01)


def test_each_pixel_gets_a_probability_for_each_class(networks):
    for network in networks.values():
        found = np.array(network(np.zeros((2, 32, 32, 3), np.float32)))
        assert found.shape == (2, 32, 32, 3)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
def test_weights_of_another_decoder_are_refused(networks, tmp_path, kind):
    file = tmp_path / f"other.{kind}"
    given = networks["pix2pix"]
    given.save(file) if kind == "keras" else given.save_weights(file)
    with pytest.raises(SettingsError, match="do not fit") as caught:
        load_network(networks["light"], str(file))
    assert "edge" in caught.value.got
    assert "decoder" in caught.value.fix


@pytest.mark.slow
def test_training_takes_the_decoder_of_its_settings():
    network, history = fit(make_splits(), IMAGING, TrainSettings(epochs=1, decoder="light"))
    assert len(history) == 1
    light, other = (build_network(32, decoder=name) for name in ("light", "pix2pix"))
    shapes = [[weight.shape for weight in each.weights] for each in (network, light, other)]
    assert shapes[0] == shapes[1] != shapes[2]
