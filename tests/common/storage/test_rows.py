"""Rows as Parquet, and back."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectline.components.common.storage.rows import parse_rows, write_rows


def table(**row: str) -> pa.Table:
    # From Python objects Arrow would import pandas.
    return pa.table({name: pa.repeat(value, 1) for name, value in row.items()})


class One(NamedTuple):
    name: str
    count: int = 0
    kind: str = ""


ROWS = [One("a", 3, "good"), One("ü/ß", 1 << 40, "good"), One("", -1, "好")]


def test_what_is_written_is_read_again(tmp_path: Path):
    for rows in (ROWS, []):
        write_rows(tmp_path / "rows", One, rows)
        assert parse_rows((tmp_path / "rows").read_bytes(), One, ("name",)) == rows


def test_others_read_the_file_too(tmp_path: Path):
    write_rows(tmp_path / "rows", One, ROWS)
    file = pq.ParquetFile(tmp_path / "rows")
    assert file.schema_arrow.types == [pa.string(), pa.int64(), pa.string()]
    assert file.read().to_pylist() == [row._asdict() for row in ROWS]


def test_what_many_rows_have_is_in_memory_once(tmp_path: Path):
    write_rows(tmp_path / "rows", One, ROWS)
    data = (tmp_path / "rows").read_bytes()
    name = "".join(["ü", "/ß"])
    first, second, _ = parse_rows(data, One, ("name",), {name: name})
    assert first.kind is second.kind
    assert second.name is name


def test_an_older_file_has_fewer_columns_and_none_that_is_not_known(tmp_path: Path):
    pq.write_table(table(name="a"), tmp_path / "old")
    assert parse_rows((tmp_path / "old").read_bytes(), One) == [One("a")]
    pq.write_table(table(name="a", other="b"), tmp_path / "new")
    with pytest.raises(ValueError, match="columns that are not known: other"):
        parse_rows((tmp_path / "new").read_bytes(), One)
    with pytest.raises(ValueError, match="not an index"):
        parse_rows(b"broken", One)
