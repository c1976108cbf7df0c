"""`defectline audit`: all logs of a store in one table, and what is wrong with them."""

import csv
import json

import pytest
from commands import call
from frames import IDS, keep_frames

from defectline.components.common.layout import AUDIT, champion_key
from defectline.components.common.records import ChampionRecord
from defectline.components.common.reporting.audit import HERE, note
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.review import accept

VERSIONS = [f"v2026010{day}-000000-00000{day}" for day in (1, 2)]


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    store = keep_frames(tmp_path / "store")
    for number, version in enumerate(VERSIONS):
        note(store, "gate", "plates", version, f"run {number}", "passed")
        note(store, "deploy", "plates", version, f"run {number}", HERE)
    note(store, "rollback", "plates", VERSIONS[0], "ada", HERE)
    record = ChampionRecord(version=VERSIONS[0], run="rollback")
    store.write(champion_key("plates"), record.model_dump_json().encode())
    accept(store, "plates", IDS[0], "OK", by="grace")
    return store


def audit(store: FolderStorage, *options: str):
    return call("audit", "--store", store.root, *options)


def test_everything_in_one_table(store):
    shown = audit(store, "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["wrong"] == []
    assert sorted((line["act"], line["by"]) for line in found["lines"]) == [
        ("decide", "grace"),
        ("deploy", "run 0"),
        ("deploy", "run 1"),
        ("gate", "run 0"),
        ("gate", "run 1"),
        ("rollback", "ada"),
    ]
    assert "grace" in audit(store).stdout


def test_some_of_it(store, tmp_path):
    rows = tmp_path / "rows.csv"
    shown = audit(store, "--act", "deploy", "--name", "plates", "--csv", str(rows))
    assert shown.returncode == 0
    with rows.open(newline="") as file:
        assert [row["subject"] for row in csv.DictReader(file)] == VERSIONS
    assert json.loads(audit(store, "--name", "others", "--json").stdout)["lines"] == []
    odd = audit(store, "--act", "deployed")
    assert (odd.returncode, "There is no act deployed" in odd.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], f"the last line about it says {VERSIONS[1]}"),
        (lambda lines: lines[1:], "audit.jsonl: line 1 does not follow"),
        (lambda lines: [lines[0].replace(b"passed", b"refused"), *lines[1:]], "line 2 does not follow"),
    ],
)
def test_what_was_changed_is_named(store, change, told):
    lines = store.read(AUDIT).splitlines(keepends=True)
    store.write(AUDIT, b"".join(change(lines)))
    shown = audit(store)
    assert shown.returncode == 2
    assert told in " ".join((shown.stdout + shown.stderr).split())


def test_a_champion_that_was_changed_by_hand_is_named(store):
    record = ChampionRecord(version=VERSIONS[1], run="by hand")
    store.write(champion_key("plates"), record.model_dump_json().encode())
    shown = audit(store)
    assert shown.returncode == 2
    assert f"plates has the champion {VERSIONS[1]}" in " ".join(shown.stderr.split())


def test_an_empty_store(tmp_path):
    shown = audit(FolderStorage(tmp_path))
    assert (shown.returncode, shown.stdout.strip()) == (0, "nothing is noted yet")
