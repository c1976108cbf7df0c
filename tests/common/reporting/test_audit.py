"""Logs in which each line has the hash of the line before."""

import os
from concurrent.futures import ThreadPoolExecutor

from defectline.components.common.layout import AUDIT
from defectline.components.common.reporting.audit import Act, by_run, note, read_chain, user
from defectline.components.common.storage.folder import FolderStorage


def test_lines_of_many_at_once_are_one_chain(tmp_path):
    """Nobody's is lost, and the chain never forks."""
    store = FolderStorage(tmp_path)
    with ThreadPoolExecutor(8) as people:
        for number in range(24):
            people.submit(note, store, "gate", "plates", f"v{number}", by_run("nightly"), "passed")
    lines, broken = read_chain(store, AUDIT, Act)
    assert not broken
    assert {line.subject for line in lines} == {f"v{number}" for number in range(24)}
    assert len({line.before for line in lines}) == 24


def test_what_is_not_a_line_ends_the_chain(tmp_path):
    store = FolderStorage(tmp_path)
    note(store, "deploy", "plates", "v1", "ada", "this machine")
    store.write(AUDIT, store.read(AUDIT) + b'{"at": "now"}\n')
    lines, broken = read_chain(store, AUDIT, Act)
    assert [line.subject for line in lines] == ["v1"]
    assert broken == "line 2 is not an entry"


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def nameless() -> str:
        raise KeyError("uid not found")

    assert user()
    monkeypatch.setattr("getpass.getuser", nameless)
    assert user() == f"user {os.getuid()}"
