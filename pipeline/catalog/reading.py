"""What every list of a store does: name what cannot be read, and find an id by its start."""

from collections.abc import Sequence

from defectline.components.common.errors import SettingsError
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage


def leave_out(store: Storage, key: str, say: Say, why: str = "") -> None:
    """Say that an object of the store is damaged, and that the list goes on without it."""
    say(f"{store.url(key)} cannot be read and is left out{f': {why}' if why else ''}")


def resolve(start: str, ids: Sequence[str], what: str, command: str) -> str:
    """The one of `ids` that is `start` or begins with it. Raises SettingsError, which names `command`."""
    if start in ids:
        return start
    matching = sorted({id for id in ids if id.startswith(start)}) if start else []
    if len(matching) == 1:
        return matching[0]
    shown = ", ".join((matching or list(ids))[-5:])
    raise SettingsError(
        f"Several {what}s begin with {start}." if matching else f"There is no {what} {start}.",
        got=start or "an empty name",
        expected=f"one of {shown}" if shown else f"the name of a {what}; there are none",
        fix="Write more of it." if matching else f"`{command}` lists them.",
    )
