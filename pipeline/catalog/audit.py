"""The audit file of reviews: who decided what, and when; and all that a store's logs say together.

review/<model>/audit.jsonl, one `Entry` a line, is a log of its own: who reviews needs no right to write
anywhere else.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from defectline.components.common.layout import (
    AUDIT,
    DECISION,
    MODELS,
    REVIEW,
    audit_key,
    champion_key,
    review_prefix,
)
from defectline.components.common.records import read_champion
from defectline.components.common.reporting.audit import Act, Line, append, is_deployed_here, read_chain
from defectline.components.common.review import Decided, Decision
from defectline.components.common.storage import Storage

READERS = 8
DECIDE = "decide"
"""What a line of a review is called among other acts."""


class Entry(Line):
    frame: str
    """Its id."""
    verdict: Decided
    mask: str
    """SHA-256 of the mask that was drawn, as it is stored; "" for the predicted one, or none."""


class Audit(NamedTuple):
    entries: list[Entry]
    broken: str = ""
    """What is wrong, with the number of the line; "" where the chain is whole."""


def note_decision(
    store: Storage, model: str, at: str, by: str, frame: str, verdict: Decided, mask: str
) -> None:
    """Add a line. Raises Conflict where others never leave room for it."""

    def line(before: str) -> Entry:
        return Entry(at=at, by=by, frame=frame, verdict=verdict, mask=mask, before=before)

    append(store, audit_key(model), line)


def read_audit(store: Storage, model: str) -> Audit:
    """All lines up to the first that is wrong."""
    entries, broken = read_chain(store, audit_key(model), Entry)
    return Audit(entries, broken or _unlike_decisions(store, model, entries))


class Row(NamedTuple):
    """A line of any log."""

    at: str
    by: str
    act: str
    """One of ACTS, or DECIDE."""
    model: str
    subject: str
    result: str


def read_all(store: Storage) -> tuple[list[Row], list[str]]:
    """What the store's logs say, the oldest first, and what is wrong with them."""
    acts, broken = read_chain(store, AUDIT, Act)
    rows = [Row(one.at, one.by, one.act, one.model, one.subject, one.result) for one in acts]
    wrong = [f"{AUDIT}: {broken}"] if broken else unlike_champions(store, acts)
    for model in sorted({found.key.split("/")[1] for found in store.list(REVIEW)}):
        audit = read_audit(store, model)
        rows += [Row(one.at, one.by, DECIDE, model, one.frame, one.verdict) for one in audit.entries]
        wrong += [f"{audit_key(model)}: {audit.broken}"] if audit.broken else []
    return sorted(rows), wrong


def unlike_champions(store: Storage, acts: Sequence[Act]) -> list[str]:
    """Which model's champion on this machine is not what the last line about it says."""
    last = {one.model: one.subject for one in acts if is_deployed_here(one)}
    names = {found.key.split("/")[1] for found in store.list(MODELS)}
    found = []
    for name in sorted(names & last.keys()):
        champion = read_champion(store, name) if store.exists(champion_key(name)) else None
        if champion and champion.version != last[name]:
            found.append(
                f"{name} has the champion {champion.version}, and the last line about it says {last[name]}: "
                "a line was taken out, or the champion was changed by other means"
            )
    return found


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
