"""JSON files that are read an entry at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
from annotated import listing, write_files
from hypothesis import given
from hypothesis import strategies as st

from defectline.components.common.errors import SourceError
from defectline.components.ingest.json_stream import _scan, read_members

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=3)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "\n"]), values),
    st.lists(objects, max_size=4),
    st.sampled_from([None, 1, "\t"]),
)
def test_members_are_those_of_json(members: dict[str, Any], entries: list[dict[str, Any]], indent: Any):
    text = f"\n {json.dumps(members | {'images': entries}, indent=indent)} "
    expected = [*members.items(), *(("images", entry) for entry in entries)]
    assert list(_scan(text, ["images"])) == expected
    assert list(_scan(json.dumps(entries, indent=indent), [])) == [("", entry) for entry in entries]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a": 1', '{"a": 1]', "[1]", '[{"a": 1}', '{"l": [1]}', '{"l": {}}', "[" * 100_000],
)
def test_what_is_not_whole_is_an_error(tmp_path: Path, text: str):
    files = listing(write_files(tmp_path, {"a.json": text}))
    with pytest.raises(SourceError, match=r"a\.json is damaged"):
        list(read_members(files, "a.json", ["l"]))


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_errors(tmp_path: Path):
    files = listing(write_files(tmp_path, {"a.json": "\ufeff{}", "b.json": '["ü"]'.encode("latin-1")}))
    assert list(read_members(files, "a.json", [])) == []
    with pytest.raises(SourceError, match=r"b\.json is damaged"):
        list(read_members(files, "b.json", []))


def test_a_file_that_is_gone_is_an_error(tmp_path: Path):
    files = listing(write_files(tmp_path, {"a.json": "{}"}))
    (tmp_path / "a.json").unlink()
    with pytest.raises(SourceError, match=r"a\.json was replaced or deleted"):
        list(read_members(files, "a.json", []))
