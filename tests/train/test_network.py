"""The network."""

import numpy as np
import pytest

from defectline.components.common.classes import CLASSES
from defectline.components.common.errors import SettingsError
from defectline.components.train.network import PRIOR, build_network, freeze_encoder


@pytest.mark.parametrize(("name", "near"), [("block_6_expnd_relu", "block_6_expand_relu"), ("?", "Use one")])
def test_a_layer_that_is_not_there(name, near):
    with pytest.raises(SettingsError, match="no layer") as caught:
        freeze_encoder(build_network(32), name)
    assert near in caught.value.fix


@pytest.mark.parametrize("channels", [1, 3])
def test_each_pixel_gets_a_probability_for_each_class(channels):
    network = build_network(32, channels)
    found = np.array(network(np.zeros((2, 32, 32, channels), np.float32)))
    assert found.shape == (2, 32, 32, CLASSES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)


def test_a_narrow_encoder_has_fewer_weights_and_the_same_layers():
    narrow, usual = (build_network(32, encoder_width=width).get_layer("encoder") for width in (0.35, 1.0))
    assert 0 < narrow.count_params() < 0.3 * usual.count_params()
    assert [layer.name for layer in narrow.layers[1:]] == [layer.name for layer in usual.layers[1:]]


@pytest.mark.parametrize("decoder", ["pix2pix", "light"])
@pytest.mark.parametrize("classes", [("defect",), ("crack", "dust", "dent")])
def test_before_anything_is_learned_nearly_everything_is_good(decoder, classes):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    found = np.array(build_network(32, classes=classes, decoder=decoder)(pictures)).mean(axis=(0, 1, 2))
    assert 0.9 < found[0] < 1
    assert found[1:] == pytest.approx([PRIOR / len(classes)] * len(classes), rel=0.7)
