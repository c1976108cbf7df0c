"""What every list of a store does: ids by their starts, and what is left out."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.reading import leave_out, resolve

IDS = [f"run-{number}" for number in range(12)]


def test_what_is_left_out_is_named_by_its_address(tmp_path):
    store, said = FolderStorage(tmp_path), []
    leave_out(store, "runs/a/gate.json", said.append)
    leave_out(store, "runs/b/gate.json", said.append, "it is empty")
    assert said == [
        f"{store.url('runs/a/gate.json')} cannot be read and is left out",
        f"{store.url('runs/b/gate.json')} cannot be read and is left out: it is empty",
    ]


@pytest.mark.parametrize(("start", "id"), [("run-3", "run-3"), ("run-1", "run-1"), ("run-11", "run-11")])
def test_a_whole_id_is_found_where_others_begin_so(start, id):
    assert resolve(start, IDS, "run", "defectline runs") == id


def test_a_start_that_only_one_id_has_is_enough():
    assert resolve("b", ["a1", "b2", "b2", "c3"], "run", "defectline runs") == "b2"


def test_a_start_of_several_asks_for_more():
    with pytest.raises(SettingsError, match="Several runs begin with run-") as caught:
        resolve("run-", IDS, "run", "defectline runs")
    assert (caught.value.got, caught.value.fix) == ("run-", "Write more of it.")
    assert "run-9" in caught.value.expected


@pytest.mark.parametrize(("start", "got"), [("x", "x"), ("", "an empty name")])
def test_an_id_that_is_not_there_names_the_last_ones_and_the_command(start, got):
    with pytest.raises(SettingsError, match=f"There is no run {start}") as caught:
        resolve(start, IDS, "run", "defectline runs")
    assert caught.value.got == got
    assert caught.value.expected == "one of run-7, run-8, run-9, run-10, run-11"
    assert caught.value.fix == "`defectline runs` lists them."


def test_where_there_are_none_that_is_said():
    with pytest.raises(SettingsError) as caught:
        resolve("x", [], "snapshot", "defectline snapshots")
    assert caught.value.expected == "the name of a snapshot; there are none"
