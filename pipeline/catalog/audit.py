"""The audit file of reviews: who decided what, and when; each line has the hash of the line before.

review/<model>/audit.jsonl, one `Entry` a line. A line that was changed or taken out breaks the chain at the
line after it. That lines are missing at the end no chain can tell, but the decisions themselves can.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common.errors import Conflict
from defectline.components.common.layout import DECISION, audit_key, review_prefix
from defectline.components.common.review import Decided, Decision
from defectline.components.common.storage import Storage

READERS = 8
TRIES = 50
"""To append, where others do at the same time."""


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    """ISO 8601, UTC."""
    by: str
    frame: str
    """Its id."""
    verdict: Decided
    mask: str
    """SHA-256 of the mask that was drawn, as it is stored; "" for the predicted one, or none."""
    before: str
    """SHA-256 of the line before; "" in the first."""


class Audit(NamedTuple):
    entries: list[Entry]
    broken: str = ""
    """What is wrong, with the number of the line; "" where the chain is whole."""


def append(store: Storage, model: str, at: str, by: str, frame: str, verdict: Decided, mask: str) -> None:
    """Add a line; nobody else's is lost. Raises Conflict where others never leave room for it."""
    key = audit_key(model)
    for attempt in range(TRIES):
        found = store.read_versioned(key)
        lines = found[0] if found else b""
        last = lines.splitlines()[-1] if lines else b""
        entry = Entry(
            at=at,
            by=by,
            frame=frame,
            verdict=verdict,
            mask=mask,
            before=hashlib.sha256(last).hexdigest() if last else "",
        )
        try:
            store.compare_and_swap(key, lines + entry.model_dump_json().encode() + b"\n", found and found[1])
            return
        except Conflict:
            if attempt == TRIES - 1:
                raise


def read_audit(store: Storage, model: str) -> Audit:
    """All lines up to the first that is wrong."""
    found = store.read_versioned(audit_key(model))
    entries: list[Entry] = []
    before = ""
    for number, line in enumerate((found[0] if found else b"").splitlines(), start=1):
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError:
            return Audit(entries, f"line {number} is not an entry")
        if entry.before != before:
            changed = f", which was changed or taken out: line {number - 1}" if number > 1 else ""
            return Audit(entries, f"line {number} does not follow the line before it{changed}")
        entries.append(entry)
        before = hashlib.sha256(line).hexdigest()
    return Audit(entries, _unlike_decisions(store, model, entries))


def _unlike_decisions(store: Storage, model: str, entries: Sequence[Entry]) -> str:
    """Which decision has another last line than it should, or none; "" where all fit."""
    last = {entry.frame: entry for entry in entries}
    keys = [found.key for found in store.list(review_prefix(model)) if found.key.endswith(DECISION)]
    with ThreadPoolExecutor(READERS) as readers:
        decisions = list(zip(keys, readers.map(store.read, keys), strict=True))
    for key, data in decisions:
        decision, id = Decision.model_validate_json(data), key.rpartition("/")[2].removesuffix(DECISION)
        entry = last.get(id)
        # Older ones do not say who, and were not noted.
        if entry is None and decision.by:
            return f"the decision about {id} by {decision.by} has no line: it was taken out, or never written"
        if entry and (entry.at, entry.by, entry.verdict) != (decision.decided, decision.by, decision.verdict):
            return f"the last line about {id} is not what was decided: {decision.verdict} by {decision.by}"
    return ""
