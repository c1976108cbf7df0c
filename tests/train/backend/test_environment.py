"""Which of how many processes the environment says that one is."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.train.backend.environment import Place, read_environment

WHOLE = {
    "JAX_COORDINATOR_ADDRESS": "a:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
    "KERAS_BACKEND": "jax",
}


def test_the_environment_says_who_one_is():
    assert read_environment(WHOLE) == ("a:1", Place(1, 2))
    assert not Place(1, 2).first
    assert read_environment({"KERAS_BACKEND": "jax"}) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"JAX_PROCESS_ID": ""}, "do not fit"),
        ({"JAX_PROCESS_ID": "2"}, "do not fit"),
        ({"JAX_NUM_PROCESSES": "two"}, "do not fit"),
        ({"JAX_COORDINATOR_ADDRESS": "a"}, "do not fit"),
        ({"KERAS_BACKEND": "tensorflow"}, "Only JAX"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(change, told):
    with pytest.raises(SettingsError, match=told):
        read_environment(WHOLE | change)
