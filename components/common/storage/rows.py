"""Named tuples of texts and whole numbers as Parquet, and back, with little memory for a million of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NONE: Mapping[str, str] = MappingProxyType({})
Row = TypeVar("Row", bound=NamedTuple)


def write_rows(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write the rows, in their order; their fields are `str` or `int`."""
    columns = {
        name: _column(of, [row[index] for row in rows])
        for index, (name, of) in enumerate(kind.__annotations__.items())
    }
    pq.write_table(pa.table(columns), path)


def _column(kind: type, values: Sequence[int | str]) -> pa.Array:
    # From Python objects Arrow would import pandas, wherever that is installed, for seconds.
    if kind is int:
        numbers = pa.py_buffer(np.array(values, np.int64))
        return pa.Array.from_buffers(pa.int64(), len(values), [None, numbers])
    texts = list(map(str, values))
    whole = "".join(texts)
    # Of ASCII a character is a byte.
    lengths: Iterable[int] = map(len, texts) if whole.isascii() else (len(text.encode()) for text in texts)
    ends = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(lengths, np.int32, len(texts)), out=ends[1:])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(whole.encode())]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def parse_rows(
    data: bytes, kind: type[Row], distinct: Collection[str] = (), there_already: Mapping[str, str] = NONE
) -> list[Row]:
    """The rows that `write_rows` wrote; fields that a file does not have yet get their defaults.

    What many rows have is in memory once, but for the fields in `distinct`, which hold another value in
    nearly each; `there_already` maps texts that are in memory to themselves. Raises ValueError for anything
    else.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        there = file.schema_arrow.names
        if unknown := set(there) - set(kind._fields):
            raise TypeError(f"columns that are not known: {', '.join(sorted(unknown))}")
        left_out = {name: kind._field_defaults[name] for name in kind._fields if name not in there}
        shared: dict[int | str, int | str] = {}
        # A dictionary a row would take three times as long, and all columns of Arrow at once much memory.
        columns: dict[str, Iterable[object]] = {name: repeat(value) for name, value in left_out.items()}
        for name in there:
            values = file.read([name], use_threads=False).column(0).to_pylist()
            if name not in distinct:
                values = list(map(shared.setdefault, values, values))
            elif there_already:
                values = list(map(there_already.get, values, values))
            columns[name] = values
        # What Arrow keeps for later would stay beside the rows.
        pa.default_memory_pool().release_unused()
        return list(map(kind._make, zip(*(columns[name] for name in kind._fields), strict=False)))
    except (pa.ArrowException, OSError, TypeError, KeyError) as error:
        raise ValueError(f"{len(data)} bytes that are not an index: {str(error).splitlines()[0]}") from error
