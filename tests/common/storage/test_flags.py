"""Environment variables that are on or off."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.flags import flag


@pytest.mark.parametrize(
    ("value", "on"),
    [
        *(("1", True), ("true", True), ("True", True), ("YES", True), ("on", True), ("1\n", True)),
        *(("0", False), ("false", False), ("FALSE", False), ("no", False), ("Off", False)),
        *(("", None), (" ", None)),
    ],
)
def test_a_flag_is_read_as_people_write_it(monkeypatch: pytest.MonkeyPatch, value: str, on: bool | None):
    monkeypatch.setenv("DEFECTLINE_X", value)
    assert flag("DEFECTLINE_X") is on


def test_a_flag_that_is_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEFECTLINE_X", raising=False)
    assert flag("DEFECTLINE_X") is None


@pytest.mark.parametrize("value", ["2", "path", "ture", "y e s"])
def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("DEFECTLINE_X", value)
    with pytest.raises(SettingsError, match="DEFECTLINE_X") as caught:
        flag("DEFECTLINE_X")
    assert value in caught.value.got
    assert "true" in caught.value.expected


def test_a_long_value_is_not_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFECTLINE_X", "wJalrXUtnFEMIK7MDENG")
    with pytest.raises(SettingsError) as caught:
        flag("DEFECTLINE_X")
    assert "wJalr" not in str(caught.value)
