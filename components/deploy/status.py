"""What serves, found where it serves, and what a deployment came to."""

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from defectline.components.common.records import Outcome, read_gate, read_outcome
from defectline.components.common.storage import Storage


class Deployed(NamedTuple):
    """A version that serves, and was checked."""

    where: str
    """`on this machine` or `at http://…`, to follow "is the champion"."""
    warning: str = ""
    """What some clients meet all the same, with what to do about it; "" for nothing."""


class Status(BaseModel):
    """What serves a model on this machine or in a namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    namespace: str = ""
    """Empty for this machine."""
    version: str = ""
    """Empty where nothing serves."""
    previous: str = ""
    """What `rollback` goes back to; empty for nothing."""
    url: str = ""
    ready_pods: int | None = None
    """Of the version; None on this machine."""
    wanted_pods: int | None = None
    under_way: list[str] = []
    """Candidates, canaries and rollouts that have not ended."""
    last_run: str = ""
    """The last run that reached its gate."""
    last_outcome: Outcome | None = None


def last_run(store: Storage, name: str) -> dict[str, Any]:
    """The fields `last_run` and `last_outcome` of a Status. Raises StoreError."""
    gate = read_gate(store, name)
    return {"last_run": gate.run, "last_outcome": read_outcome(store, gate.run)} if gate else {}
