"""Settings that are checked when they are made."""

from typing import Literal, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import (
    checked,
    did_you_mean,
    list_settings,
    parse_pairs,
    select,
    unknown,
)


class Oven(BaseModel):
    model_config = ConfigDict(extra="forbid")

    degrees: int = Field(default=180, ge=30, le=250)
    fan: bool = False
    mode: Literal["bake", "grill"] = "bake"

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mode == "grill" and self.fan:
            raise ValueError("mode=grill only without fan")
        return self


class Rod(BaseModel):
    length: int


class Stick(Rod):
    width: int


def test_right_values_are_taken():
    assert checked(Oven, degrees=200, fan=True) == Oven(degrees=200, fan=True)


@pytest.mark.parametrize(
    ("values", "what", "got", "expected"),
    [
        ({"degrees": 300}, "degrees", "300", "less than or equal to 250"),
        ({"degrees": "hot"}, "degrees", "'hot'", "a valid integer"),
        ({"mode": "fry"}, "mode", "'fry'", "'bake' or 'grill'"),
    ],
)
def test_a_wrong_value_is_named_with_its_bounds_and_default(values, what, got, expected):
    with pytest.raises(SettingsError, match=f"The setting {what} is wrong") as caught:
        checked(Oven, **values)
    assert caught.value.got == got
    assert expected in caught.value.expected
    default = str(Oven.model_fields[what].default)
    assert caught.value.fix == f"Give {what} such a value, or leave it out for its default, {default}."


def test_several_settings_in_one_are_told_apart():
    with pytest.raises(SettingsError) as caught:
        checked(Oven, degrees="200 mode=bake")
    assert caught.value.fix == "Give mode a --set of its own."


def test_a_value_that_is_needed_has_no_default_to_fall_back_to():
    with pytest.raises(SettingsError, match="The setting length is wrong") as caught:
        checked(Rod)
    assert caught.value.fix == "Give length such a value."


def test_an_unknown_setting_is_named_with_the_nearest_one():
    with pytest.raises(SettingsError, match="There is no setting degres") as caught:
        checked(Oven, degres=200)
    assert caught.value.fix == "Did you mean degrees?"
    assert "fan" in caught.value.expected


def test_values_that_do_not_go_together_are_all_shown():
    with pytest.raises(SettingsError, match="do not go together") as caught:
        checked(Oven, mode="grill", fan=True, degrees=180)
    assert caught.value.got == "fan=True, mode=grill"
    assert caught.value.expected == "mode=grill only without fan"


def test_a_name_that_nothing_is_near_to():
    assert did_you_mean("xyz", ["degrees", "fan"]) == "Use one of these."
    assert unknown("setting xyz", "xyz", iter(["degrees", "fan"])).expected == "degrees, fan"


def test_pairs_are_read_and_the_last_one_counts():
    assert parse_pairs(["a=1", "b=x=y", "a="], ["a", "b"]) == {"a": "", "b": "x=y"}
    with pytest.raises(SettingsError, match="--set a sets nothing") as caught:
        parse_pairs(["a"], ["a"])
    assert caught.value.fix == "Write --set a=…, without spaces."
    with pytest.raises(SettingsError, match="There is no option degres of the oven") as caught:
        parse_pairs(["degres=2"], ["degrees"], what="option {} of the oven")
    assert caught.value.fix == "Did you mean degrees?"


def test_fields_are_listed_and_selected():
    assert list_settings(Oven) == "degrees=180 fan=False mode=bake"
    assert select(Rod, Stick(length=3, width=1)) == {"length": 3}
