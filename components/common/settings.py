"""Settings that are checked when they are made."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from defectline.components.common.errors import SettingsError

_LEADING = re.compile("^(Input should be|Value error,|String should match) ")
"""What pydantic's messages begin with and a list of what is expected does not need."""

T = TypeVar("T", bound=BaseModel)


def checked(kind: type[T], **values: object) -> T:
    """`kind(**values)`, with a SettingsError that names each wrong value instead of pydantic's own."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        if first["type"] == "extra_forbidden":
            raise unknown(f"setting {name}", name, kind.model_fields) from error
        if not first["loc"]:
            given = {
                key: values[key]
                for key, field in kind.model_fields.items()
                if key in values and not field.is_required() and values[key] != field.default
            }
            raise SettingsError(
                "These settings do not go together.",
                got=", ".join(f"{key}={value}" for key, value in given.items()),
                expected=_LEADING.sub("", first["msg"]),
                fix="Leave one of them out, or correct it.",
            ) from error
        wrong = {".".join(map(str, one["loc"])): one for one in error.errors() if one["loc"]}
        if len(wrong) > 1:
            raise SettingsError(
                f"The settings {', '.join(wrong)} are wrong.",
                got=", ".join(f"{name}={one['input']!r}" for name, one in wrong.items()),
                expected="; ".join(f"{name}: {_expected(one['msg'])}" for name, one in wrong.items()),
                fix="Give each such a value, or leave it out for its default.",
            ) from error
        several = re.search(r"\s(\w+)=", str(first["input"]))
        raise SettingsError(
            f"The setting {name} is wrong.",
            got=repr(first["input"]),
            expected=_expected(first["msg"]),
            fix=f"Give {several[1]} a --set of its own." if several else _use_another(kind, name),
        ) from error


def _expected(message: str) -> str:
    return _LEADING.sub("", message).partition(", unable to")[0]


def _use_another(kind: type[BaseModel], name: str) -> str:
    field = kind.model_fields.get(name)
    if field is None or field.is_required():
        return f"Give {name} such a value."
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    told = f" for its default, {default}" if default != "" else ""
    return f"Give {name} such a value, or leave it out{told}."


def parse_pairs(
    pairs: Iterable[str], known: Iterable[str], written: str = "--set ", what: str = "setting {}"
) -> dict[str, str]:
    """Texts `key=value` as a dict; of two with the same key the last one counts.

    `written` is what stands before a pair where people write it, `what` what they call one of the `known`
    keys. Raises SettingsError for a text without a value and for a key that is not known.
    """
    known, values = list(known), {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SettingsError(
                f"{written}{pair} sets nothing.",
                got=pair,
                expected="key=value",
                fix=f"Write {written}{key or 'key'}=…, without spaces.",
            )
        if key not in known:
            raise unknown(what.format(key), key, known)
        values[key] = value
    return values


def list_settings(kind: type[BaseModel]) -> str:
    """The fields with their defaults, as a help text: `masks=all force=False …`."""
    return " ".join(f"{name}={field.default}" for name, field in kind.model_fields.items())


def select(kind: type[BaseModel], settings: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `settings` that are fields of `kind`, in its order."""
    values = settings.model_dump() if isinstance(settings, BaseModel) else settings
    return {name: values[name] for name in kind.model_fields if name in values}


def unknown(what: str, name: str, known: Iterable[str]) -> SettingsError:
    """The error for a `name` that is not one of those that are known."""
    known = list(known)
    return SettingsError(
        f"There is no {what}.", got=name, expected=", ".join(known), fix=did_you_mean(name, known)
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The fix for an unknown name: the nearest of those that are known, where one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]}?" if near else "Use one of these."
