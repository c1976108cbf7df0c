"""Settings that are checked when they are made."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidationInfo

from defectline.components.common.errors import SettingsError

_LEADING = re.compile("^(Input should be|Value error,|String should match) ")
"""What pydantic's messages begin with and a list of what is expected does not need."""

T = TypeVar("T", bound=BaseModel)


def _not_below_grade_a(grade_b_px: int, others: ValidationInfo) -> int:
    least = others.data.get("grade_a_px", 0)
    if grade_b_px < least:
        raise ValueError(f"at least grade_a_px, which is {least}; or 0 for both, for no grades")
    return grade_b_px


GradeB = Annotated[int, Field(ge=0, validate_default=True), AfterValidator(_not_below_grade_a)]
"""The type of a setting `grade_b_px` that stands below one called `grade_a_px`."""


def checked(kind: type[T], **values: object) -> T:
    """`kind(**values)`, with a SettingsError that names the first wrong value instead of pydantic's own."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        if first["type"] == "extra_forbidden":
            raise unknown(f"setting {name}", name, kind.model_fields) from error
        if not first["loc"]:
            given = {key: value for key, value in values.items() if value != kind.model_fields[key].default}
            raise SettingsError(
                "These settings do not go together.",
                got=", ".join(f"{key}={value}" for key, value in given.items()),
                expected=_LEADING.sub("", first["msg"]),
                fix="Leave one of them out, or correct it.",
            ) from error
        raise SettingsError(
            f"The setting {name} is wrong.",
            got=repr(first["input"]),
            expected=_LEADING.sub("", first["msg"]).partition(", unable to")[0],
            fix=_use_another(kind, name),
        ) from error


def _use_another(kind: type[BaseModel], name: str) -> str:
    field = kind.model_fields.get(name)
    if field is None or field.is_required():
        return f"Give {name} such a value."
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"Give {name} such a value, or leave it out for its default, {default}."


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
