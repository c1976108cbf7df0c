"""Environment variables that are on or off."""

import os

from defectline.components.common.errors import SettingsError

ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
SHOWN = 12
"""Characters: a longer value may be a secret that was put into the wrong variable."""


def flag(name: str) -> bool | None:
    """Whether the variable is on, in any case; None where it is not set or empty.

    Raises SettingsError for a value that is not one of ON and OFF.
    """
    value = os.environ.get(name, "").strip()
    if not value or value.lower() in ON + OFF:
        return value.lower() in ON if value else None
    raise SettingsError(
        f"{name} is neither on nor off.",
        got=repr(value) if len(value) <= SHOWN else f"a text of {len(value)} characters",
        expected=f"{', '.join(ON)} or {', '.join(OFF)}",
        fix=f"Set {name} to 1 or 0, or remove it.",
    )
