"""Settings that are checked when they are made."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from defectline.components.common.errors import SettingsError

T = TypeVar("T", bound=BaseModel)


def checked(kind: type[T], **values: object) -> T:
    """`kind(**values)`, with a SettingsError that names the first wrong value instead of pydantic's own."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise SettingsError(
            f"The setting {name} is wrong.",
            got=repr(first["input"]),
            expected=first["msg"][:1].lower() + first["msg"][1:],
            fix=f"Correct {name}.",
        ) from error
