"""How a run ended, and which run the next one compares itself with.

runs/<run>/outcome.json       an `Outcome`, written by the step that ends the story
models/<name>/gated.json      a `Gated`: the last run that reached its gate
models/<name>/current.json    a `Current`: the champion of the local target
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from defectline.components.common.storage import Storage


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(_Record):
    state: Literal["deployed", "nothing_new", "refused", "failed"]
    reason: str
    version: str = ""
    """The version that serves when the run has ended; empty where none does or it is not known."""


class Gated(_Record):
    run: str
    snapshot: str
    settings: str


class Current(_Record):
    version: str
    run: str


def outcome_key(run: str) -> str:
    return f"runs/{run}/outcome.json"


def gated_key(model_name: str) -> str:
    return f"models/{model_name}/gated.json"


def current_key(model_name: str) -> str:
    return f"models/{model_name}/current.json"


def write_outcome(store: Storage, run: str, outcome: Outcome) -> None:
    store.write(outcome_key(run), outcome.model_dump_json(indent=2).encode())


def read_outcome(store: Storage, run: str) -> Outcome | None:
    try:
        return Outcome.model_validate_json(store.read(outcome_key(run)))
    except KeyError:
        return None


def write_gated(store: Storage, model_name: str, gated: Gated) -> None:
    store.write(gated_key(model_name), gated.model_dump_json(indent=2).encode())


def read_gated(store: Storage, model_name: str) -> Gated | None:
    try:
        return Gated.model_validate_json(store.read(gated_key(model_name)))
    except KeyError:
        return None


def read_current(store: Storage, model_name: str) -> Current | None:
    try:
        return Current.model_validate_json(store.read(current_key(model_name)))
    except KeyError:
        return None
