"""How a run ended, and which run the next one compares itself with.

runs/<run>/outcome.json       an `Outcome`, written by the step that ends the story
models/<name>/gated.json      a `Gated`: the last run that reached its gate
models/<name>/current.json    a `Current`: the champion of the local target
"""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common.errors import StoreError
from defectline.components.common.storage import Storage

R = TypeVar("R", bound=BaseModel)


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
    former: str = ""
    """The version that served before, to go back to."""


def outcome_key(run: str) -> str:
    return f"runs/{run}/outcome.json"


def gated_key(model_name: str) -> str:
    return f"models/{model_name}/gated.json"


def current_key(model_name: str) -> str:
    return f"models/{model_name}/current.json"


def _read(kind: type[R], store: Storage, key: str) -> R | None:
    """The record under a key, or None; StoreError where it cannot be understood."""
    try:
        return kind.model_validate_json(store.read(key))
    except KeyError:
        return None
    except ValidationError as error:
        # Without the champion that it names, the gate would have nothing to compare with.
        fix = (
            "say with `defectline rollback --to VERSION` what serves"
            if kind is Current
            else "the next run writes it"
        )
        raise StoreError(
            f"{store.url(key)} is damaged.",
            got=error.errors()[0]["msg"],
            expected=f"the fields {', '.join(kind.model_fields)}",
            fix=f"Bring it back from a backup; or remove it, and {fix} anew.",
        ) from error


def write_outcome(store: Storage, run: str, outcome: Outcome) -> None:
    store.write(outcome_key(run), outcome.model_dump_json(indent=2).encode())


def read_outcome(store: Storage, run: str) -> Outcome | None:
    return _read(Outcome, store, outcome_key(run))


def write_gated(store: Storage, model_name: str, gated: Gated) -> None:
    store.write(gated_key(model_name), gated.model_dump_json(indent=2).encode())


def read_gated(store: Storage, model_name: str) -> Gated | None:
    return _read(Gated, store, gated_key(model_name))


def read_current(store: Storage, model_name: str) -> Current | None:
    return _read(Current, store, current_key(model_name))
