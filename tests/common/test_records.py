"""The records of runs, gates and champions, and what is said where one is damaged."""

import pytest

from defectline.components.common.errors import StoreError
from defectline.components.common.layout import champion_key, gate_key
from defectline.components.common.records import (
    ChampionRecord,
    GateRecord,
    Outcome,
    read_champion,
    read_gate,
    read_outcome,
    write_gate,
    write_outcome,
)
from defectline.components.common.storage.folder import FolderStorage


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    return FolderStorage(tmp_path)


def test_there_are_none_in_a_new_store(store):
    assert (read_outcome(store, "one"), read_gate(store, "m"), read_champion(store, "m")) == (None,) * 3


def test_outcome_and_gate_are_read_as_written(store):
    outcome = Outcome(state="refused", reason="max_escape")
    write_outcome(store, "one", outcome)
    assert read_outcome(store, "one") == outcome
    gate = GateRecord(run="one", snapshot="0a", settings="epochs=1")
    write_gate(store, "m", gate)
    assert read_gate(store, "m") == gate


def test_a_champion_of_the_release_before_opens(store):
    """Its record calls the version before it `former`."""
    store.write(champion_key("m"), b'{"version": "v2", "run": "two", "former": "v1"}')
    champion = read_champion(store, "m")
    assert champion == ChampionRecord(version="v2", run="two", previous="v1")
    assert champion.model_dump() == {"version": "v2", "run": "two", "previous": "v1"}


def test_a_gate_of_the_release_before_opens(store):
    """Its record calls the key of the settings `settings`."""
    store.write(gate_key("m"), b'{"run": "one", "snapshot": "0a", "settings": "epochs=1"}')
    assert read_gate(store, "m") == GateRecord(run="one", snapshot="0a", settings_key="epochs=1")


def test_a_damaged_champion_says_how_to_go_on(store):
    store.write(champion_key("m"), b'{"version": "v2"')
    with pytest.raises(StoreError, match=r"current\.json is damaged") as caught:
        read_champion(store, "m")
    assert caught.value.expected == "the fields version, run, previous"
    assert "defectline rollback --to VERSION" in caught.value.fix


def test_a_damaged_gate_says_how_to_go_on(store):
    store.write(gate_key("m"), b"{}")
    with pytest.raises(StoreError, match=r"gated\.json is damaged") as caught:
        read_gate(store, "m")
    assert "the next run writes it again" in caught.value.fix
