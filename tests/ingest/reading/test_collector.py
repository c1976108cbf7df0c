"""The collector of cycles is off for a while."""

import gc

import pytest

from defectline.components.ingest.reading.collector import uncollected


def test_it_is_on_again_afterwards_whatever_happens():
    @uncollected()
    def fail() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_what_was_off_stays_off():
    gc.disable()
    try:
        with uncollected(), uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
