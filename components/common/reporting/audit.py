"""Logs of who did what, which nobody can change unseen: each line has the hash of the line before.

audit.jsonl at the root of a store has an `Act` a line: what changed what serves or what is learned. A line
that was changed or taken out breaks the chain at the line after it. That lines are missing at the end no
chain can tell; what they were about can.
"""

import getpass
import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common.errors import Conflict, StoreError
from defectline.components.common.layout import AUDIT
from defectline.components.common.storage import Storage

TRIES = 50
"""To append, where others do at the same time."""
ActName = Literal["gate", "approve", "reject", "deploy", "rollback", "export", "prune"]
ACTS = get_args(ActName)
SERVES: tuple[ActName, ...] = ("deploy", "rollback")
"""Acts after which a version serves."""


class Line(BaseModel):
    """What every line has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    """ISO 8601, UTC."""
    by: str
    """A person, or `run` and the name of a run."""
    before: str = ""
    """SHA-256 of the line before; "" in the first."""


class Act(Line):
    act: ActName
    model: str
    """"" for what is of no model, such as a snapshot that was pruned."""
    subject: str
    """What it was done to: a version, a frame, a kind of objects and their name."""
    result: str = ""
    """How it ended, or where to; "" where that goes without saying."""


L = TypeVar("L", bound=Line)
HERE = "this machine"
"""Where a version was deployed to, or the namespace of KServe."""


def by_run(run: str) -> str:
    return f"run {run}"


def user() -> str:
    """Who is at work here; in a container its user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def note(store: Storage, act: ActName, model: str, subject: str, by: str, result: str = "") -> None:
    """Add an act to the store's log. Raises Conflict where others never leave room for it."""
    at = datetime.now(UTC).isoformat(timespec="seconds")

    def line(before: str) -> Act:
        return Act(at=at, by=by, act=act, model=model, subject=subject, result=result, before=before)

    append(store, AUDIT, line)


def append(store: Storage, key: str, line: Callable[[str], Line]) -> None:
    """Add the line that follows one with this hash; nobody else's is lost. Raises Conflict as `note`."""
    for attempt in range(TRIES):
        found = store.read_versioned(key)
        lines = found[0] if found else b""
        last = lines.splitlines()[-1] if lines else b""
        new = line(hashlib.sha256(last).hexdigest() if last else "")
        try:
            store.compare_and_swap(key, lines + new.model_dump_json().encode() + b"\n", found and found[1])
            return
        except Conflict:
            if attempt == TRIES - 1:
                raise


def read_chain(store: Storage, key: str, kind: type[L]) -> tuple[list[L], str]:
    """All lines of a log that can be read, and what is wrong with the first that is wrong, or ""."""
    found = store.read_versioned(key)
    lines: list[L] = []
    before = broken = ""
    for number, text in enumerate((found[0] if found else b"").splitlines(), start=1):
        try:
            line = kind.model_validate_json(text)
        except ValidationError:
            broken = broken or f"line {number} is not an entry"
        else:
            if line.before != before:
                changed = f", which was changed or taken out: line {number - 1}" if number > 1 else ""
                broken = broken or f"line {number} does not follow the line before it{changed}"
            lines.append(line)
        before = hashlib.sha256(text).hexdigest()
    return lines, broken


def last_deployed(store: Storage, model: str) -> str:
    """The version that the log says was last deployed on this machine, or gone back to; "" for none.

    Raises StoreError where the log was changed: then it says nothing.
    """
    acts, broken = read_chain(store, AUDIT, Act)
    if broken:
        raise StoreError(
            f"{store.url(AUDIT)} was changed.",
            got=broken,
            expected="lines that follow one another",
            fix="Bring it back from a backup; `defectline audit` shows what is left.",
        )
    return next((one.subject for one in reversed(acts) if is_deployed_here(one) and one.model == model), "")


def is_deployed_here(one: Act) -> bool:
    return one.act in SERVES and one.result == HERE
