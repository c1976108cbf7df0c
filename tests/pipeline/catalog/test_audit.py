"""The audit file: whole, changed, cut, and written by several at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import call

from defectline.components.common.review import Decision
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.audit import note_decision, read_audit

KEY = "review/plates/audit.jsonl"


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    made = FolderStorage(tmp_path)
    for number in range(4):
        note_decision(
            made, "plates", f"2026-01-0{number + 1}T00:00:00+00:00", "ada", f"{number:032x}", "OK", ""
        )
    return made


def test_nobody_has_decided_anything(tmp_path):
    assert read_audit(FolderStorage(tmp_path), "plates") == ([], "")


def test_a_whole_chain(store):
    found = read_audit(store, "plates")
    assert ([entry.frame[-1] for entry in found.entries], found.broken) == (["0", "1", "2", "3"], "")
    assert found.entries[0].before == ""


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"OK"', b'"NG"'), *lines[2:]], "line 3 does not follow"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 does not follow"),
        (lambda lines: [*lines[:2], b"{}", *lines[2:]], "line 3 is not an entry"),
    ],
)
def test_a_line_that_was_changed_is_found(store, change, broken):
    lines = store.read(KEY).splitlines()
    store.write(KEY, b"\n".join(change(lines)) + b"\n")
    assert read_audit(store, "plates").broken.startswith(broken)
    done = call("review", "audit", "--store", store.root, "--name", "plates")
    assert done.returncode == 2
    assert f"the audit file is broken: {broken}" in done.stderr


@pytest.fixture
def decided(tmp_path) -> FolderStorage:
    """Two frames that ada has decided about, the second one again."""
    store = FolderStorage(tmp_path)
    for number, at in ((1, "2026-01-01"), (2, "2026-01-02"), (2, "2026-01-03")):
        decision = Decision(verdict="OK", decided=at, by="ada")
        store.write(
            f"review/plates/2026-01-01/{number:032x}.decision.json", decision.model_dump_json().encode()
        )
        note_decision(store, "plates", at, "ada", f"{number:032x}", "OK", "")
    return store


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda lines: lines[:2], "the last line about 0000"),
        (lambda lines: lines[:1], "the decision about 0000"),
        (lambda lines: [*lines[:2], lines[2].replace(b"ada", b"bob")], "the last line about 0000"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"OK"', b'"NG"')], "the last line about 0000"),
        (lambda lines: [], "the decision about 0000"),
    ],
)
def test_the_end_is_compared_with_the_decisions(decided, change, broken):
    assert not read_audit(decided, "plates").broken
    lines = change(decided.read(KEY).splitlines())
    decided.write(KEY, b"".join(line + b"\n" for line in lines))
    assert read_audit(decided, "plates").broken.startswith(broken)


def test_several_at_once_lose_no_line(store):
    def add(number: int) -> None:
        note_decision(store, "plates", "2026-02-01T00:00:00+00:00", f"user{number}", "f" * 32, "NG", "")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    found = read_audit(store, "plates")
    assert (len(found.entries), found.broken) == (16, "")


def test_the_command_lists_who_decided_what(store):
    done = call("review", "audit", "--store", store.root, "--name", "plates")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ada") == 4
    assert (
        '"by": "ada"' in call("review", "audit", "--store", store.root, "--name", "plates", "--json").stdout
    )
