"""How a run ended, and which run the next one compares itself with.

runs/<run>/outcome.json       an `Outcome`, written by the step that ends the run
models/<name>/gated.json      a `GateRecord`: the last run that reached its gate
models/<name>/current.json    a `ChampionRecord`: the champion of the local target
models/<name>/waiting.json    a `Waiting`: the challenger that a person must approve
"""

from contextlib import suppress
from typing import Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from defectline.components.common import layout
from defectline.components.common.errors import Conflict, StoreError
from defectline.components.common.storage import Storage

R = TypeVar("R", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(_Record):
    state: Literal["deployed", "nothing_new", "kept", "refused", "awaiting_approval", "failed"]
    """`kept`: the challenger is as good as the champion, but not better."""
    reason: str
    version: str = ""
    """The version that serves when the run has ended; empty where none does or it is not known."""
    advice: str = ""
    """What to try next, where training can tell."""


class GateRecord(_Record):
    run: str
    snapshot: str
    settings_key: str = Field(validation_alias=AliasChoices("settings_key", "settings"))
    """The settings that decide what is learned and how it is judged, as `key=value key=value …`."""


class ChampionRecord(_Record):
    version: str
    run: str
    previous: str = Field(default="", validation_alias=AliasChoices("previous", "former"))
    """The version that served before, to go back to."""


class Waiting(_Record):
    version: str
    run: str
    settings_key: str
    kserve: dict[str, Any]
    """How it is to be deployed: fields of KServeSettings; empty for this machine."""
    decided: Literal["", "approve", "reject"] = ""
    """What enough people said, while that is carried out: nobody can say the other any more."""


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
            if kind is ChampionRecord
            else "the next run writes it"
        )
        raise StoreError(
            f"{store.url(key)} is damaged.",
            got=error.errors()[0]["msg"],
            expected=f"the fields {', '.join(kind.model_fields)}",
            fix=f"Bring it back from a backup; or remove it, and {fix} again.",
        ) from error


def write_outcome(store: Storage, run: str, outcome: Outcome) -> None:
    store.write(layout.run_key(run, layout.OUTCOME), outcome.model_dump_json(indent=2).encode())


def read_outcome(store: Storage, run: str) -> Outcome | None:
    return _read(Outcome, store, layout.run_key(run, layout.OUTCOME))


def write_gate(store: Storage, model_name: str, record: GateRecord) -> None:
    store.write(layout.gate_key(model_name), record.model_dump_json(indent=2).encode())


def read_gate(store: Storage, model_name: str) -> GateRecord | None:
    return _read(GateRecord, store, layout.gate_key(model_name))


def read_champion(store: Storage, model_name: str) -> ChampionRecord | None:
    return _read(ChampionRecord, store, layout.champion_key(model_name))


def write_waiting(store: Storage, model_name: str, record: Waiting) -> None:
    store.write(layout.waiting_key(model_name), record.model_dump_json(indent=2).encode())


def read_waiting(store: Storage, model_name: str) -> Waiting | None:
    return _read(Waiting, store, layout.waiting_key(model_name))


def decide_waiting(store: Storage, model_name: str, version: str, what: Literal["approve", "reject"]) -> bool:
    """Note what was decided of the version that waits; whether nobody decided otherwise meanwhile."""
    found = store.read_versioned(layout.waiting_key(model_name))
    waiting = Waiting.model_validate_json(found[0]) if found else None
    if not found or not waiting or waiting.version != version or waiting.decided not in ("", what):
        return False
    record = waiting.model_copy(update={"decided": what})
    try:
        store.compare_and_swap(
            layout.waiting_key(model_name), record.model_dump_json(indent=2).encode(), found[1]
        )
    except Conflict:
        return decide_waiting(store, model_name, version, what)
    return True


def clear_waiting(store: Storage, model_name: str) -> None:
    """Nothing waits any more; somebody else may have said so already."""
    with suppress(KeyError):
        store.delete(layout.waiting_key(model_name))
