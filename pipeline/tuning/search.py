"""What people write after `--search`, and how it is written back."""

import re
from collections.abc import Collection, Iterable
from typing import get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import TypeAdapter, ValidationError

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import parse_pairs, unknown
from defectline.pipeline.tuning.space import FIELDS, FIXED, SPACE, Space, Value

FORM = "NAME=LOW..HIGH, NAME=A,B,C, or a NAME alone"
LOG_RATIO = 100
"""A range whose ends are so many times apart is searched by factors."""


def make_space(texts: Iterable[str], given: Collection[str] = (), large_pictures: bool = True) -> Space:
    """What `--search` names, each with its range or choices; without any all of SPACE but what is `given`.

    Tiles are only searched by default where pictures are larger than the network's input. Raises
    SettingsError.
    """
    found: dict[str, BaseDistribution] = {}
    for text in texts:
        name, equals, amounts = text.partition("=")
        if name in FIXED:
            raise SettingsError(
                f"The setting {name} is not searched.",
                got=f"--search {text}",
                expected="a setting that trials may differ in",
                fix=f"Leave it out: all trials have the same. --set {name}=… gives it.",
            )
        if name not in FIELDS:
            raise unknown(f"setting {name} to search", name, FIELDS)
        if not equals and name not in SPACE:
            raise _wrong(f"--search {text}", "no range", f"{name}=LOW..HIGH or {name}=A,B,C")
        found[name] = _parse(f"--search {text}", name, amounts) if equals else SPACE[name]
    if found:
        return found
    left_out = {*given, *(() if large_pictures else ("tile",))}
    return {name: one for name, one in SPACE.items() if name not in left_out}


def parse_values(pairs: Iterable[str]) -> dict[str, Value]:
    """Texts `name=value` as values of settings that can be searched. Raises SettingsError."""
    found = parse_pairs(pairs, FIELDS, written="--try ", what="setting {} to try")
    return {name: _value(f"--try {name}={text}", name, text) for name, text in found.items()}


def _parse(text: str, name: str, amounts: str) -> BaseDistribution:
    if ".." in amounts:
        low, high = (_value(text, name, side) for side in amounts.split("..", 1))
        if isinstance(low, bool | str) or isinstance(high, str) or low >= high:
            raise _wrong(text, amounts, "two numbers, the lower one first")
        step: int = next((m.multiple_of for m in FIELDS[name].metadata if hasattr(m, "multiple_of")), 1)
        known = SPACE.get(name)
        log = bool(getattr(known, "log", False)) or (low > 0 and high / low >= LOG_RATIO)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, step=step)
        return FloatDistribution(float(low), float(high), log=log and low > 0)
    return CategoricalDistribution([_value(text, name, one) for one in amounts.split(",")])


def _value(text: str, name: str, amount: str) -> Value:
    """A value of the type of the setting, within its bounds."""
    field = FIELDS[name]
    try:
        return TypeAdapter(field.rebuild_annotation()).validate_python(amount.strip())
    except ValidationError as error:
        # `channels` is a choice of numbers.
        if amount.strip().isdecimal() and int(amount) in get_args(field.annotation):
            return int(amount)
        expected = re.sub("^Input should be ", "", error.errors()[0]["msg"])
        raise _wrong(text, repr(amount), expected.partition(", unable to")[0]) from None


def _wrong(text: str, got: str, expected: str) -> SettingsError:
    return SettingsError(
        f"{text} cannot be used.",
        got=got,
        expected=expected,
        fix=f"Write it as {FORM if text.startswith('--search') else '--try NAME=VALUE'}.",
    )


def describe(space: Space) -> dict[str, str]:
    """Each setting with its range or choices, as `--search` takes them."""
    return {name: _describe(one) for name, one in space.items()}


def _describe(one: BaseDistribution) -> str:
    if isinstance(one, CategoricalDistribution):
        return ",".join(
            str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in one.choices
        )
    assert isinstance(one, FloatDistribution | IntDistribution)
    return f"{one.low:g}..{one.high:g}"
