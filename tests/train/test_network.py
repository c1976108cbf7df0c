"""The network."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.train.network import build_network, freeze_encoder


@pytest.mark.parametrize(("name", "near"), [("block_6_expnd_relu", "block_6_expand_relu"), ("?", "Use one")])
def test_a_layer_that_is_not_there(name, near):
    with pytest.raises(SettingsError, match="no layer") as caught:
        freeze_encoder(build_network(32), name)
    assert near in caught.value.fix
