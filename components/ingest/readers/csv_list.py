"""labels.csv at the source's root: a list of pictures and what is known of each.

image,label,mask,class,group,split
cam1/0001.png,OK,,,part 7,train
cam1/0002.png,NG,masks/0002.png,scratch,part 8,
"""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import NamedTuple

from defectline.components.common.classes import MOST_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.storage import Object
from defectline.components.ingest.labels.names import means_bad, means_good
from defectline.components.ingest.readers.base import Layout, Listing, Record, unusable

NAME = "csv"
KEY = "labels.csv"
COLUMNS = ("image", "label", "mask", "class", "group", "split")
EXPECTED = f"{KEY} with the columns {','.join(COLUMNS)}, of which image and either label or mask are needed"
SPLIT_NAMES = {**{split: split for split in SPLITS}, "val": "validation", "valid": "validation"}
SHOWN = 5
"""Rows that an error names."""


class Row(NamedTuple):
    """A row; "" for a column that the table does not have."""

    line: int
    image: str
    """A key, as `mask` is."""
    label: str
    mask: str
    kind: str
    """The column `class`."""
    group: str
    split: str


def fits(listing: Listing) -> str:
    return f"{KEY} is a list of pictures" if _table(listing) else ""


def read(listing: Listing) -> Layout:
    """The rows as records. A row whose file is missing is rejected.

    Raises SourceError where the table is malformed, a label or split is unknown, a picture stands there twice
    or an URL leads out of the source.
    """
    table = _table(listing)
    if not table:
        raise SourceError(
            f"The source has no {KEY}.", got=f"{len(listing.objects)} files", expected=EXPECTED, fix="Add it."
        )
    rows = parse(listing.read(table), listing.source.uri)
    by_name = {unicodedata.normalize("NFC", item.key): item for item in listing.objects}
    near = {_name(key): key for key in by_name}
    stems = Counter(_stem(row.image) for row in rows)
    records: list[Record] = []
    rejected: list[Pair] = []
    named = {table}
    for row in rows:
        named |= {row.image, row.mask}
        image, mask = by_name.get(row.image), by_name.get(row.mask)
        # Of two pictures that differ in their suffix alone each keeps it.
        stem = _stem(row.image) if stems[_stem(row.image)] == 1 else row.image
        if wrong := _wrong(row, image, mask, near):
            reason, fix = wrong
            reason = f"{table}, line {row.line}: {reason}"
            rejected.append(unusable(stem, reason, fix, label=row.label, image=row.image, mask=row.mask))
        elif image:
            legend = "" if row.label == "OK" and not mask else _legend(row.kind)
            records.append(Record(stem, row.label, image, mask, legend, row.group, row.split))
    others = sum(name not in named for name in by_name)
    return Layout(records, rejected, +Counter({f"files that {table} does not name": others}))


def parse(data: bytes, source: str = "") -> list[Row]:
    """The rows of a table; keys of URLs below `source` are relative to it. Pure; raises as `read` does."""
    try:
        # Spreadsheets put a byte order mark in front, and in some countries a semicolon between.
        text = data.decode("utf-8-sig")
        header = text.partition("\n")[0]
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True
        )
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(columns)
        rows = list(_rows(reader, columns, source))
    except UnicodeDecodeError as error:
        raise _malformed(f"bytes that are not UTF-8 at {error.start}") from error
    except csv.Error as error:
        raise _malformed(f"{error} in line {reader.line_num}") from error
    _check_values(rows, columns)
    # Where masks alone say it, a picture without one is good.
    silent = "" if "label" in columns else "OK"
    return [_with_label(row, silent)._replace(split=_split(row.split)) for row in rows]


def _with_label(row: Row, silent: str) -> Row:
    """Without a label and a mask, the name of a defect says it as well."""
    label = _label(row.label)
    if label or row.mask:
        return row._replace(label=label)
    if means_good(row.kind):
        return row._replace(label="OK", kind="")
    return row._replace(label="NG" if row.kind else silent)


def _rows(reader: Iterator[list[str]], columns: Sequence[str], source: str) -> Iterator[Row]:
    for fields in reader:
        fields = [field.strip() for field in fields]
        line = reader.line_num  # type: ignore[attr-defined]
        if not any(fields):
            continue
        if len(fields) != len(columns):
            raise _malformed(f"{len(fields)} columns in line {line}: {','.join(fields)!r}")
        values = dict(zip(columns, fields, strict=True))
        image, label, mask, kind, group, split = (values.get(name, "") for name in COLUMNS)
        yield Row(line, _key(image, source), label, _key(mask, source), kind, group, split)


def _table(listing: Listing) -> str:
    """The key of the table, whose name may be in upper case; "" where there is none."""
    return next((item.key for item in listing.objects if item.key.lower() == KEY), "")


def _key(path: str, source: str) -> str:
    """The key that a path or URL in the table means."""
    if "://" in path:
        if source and path.startswith(f"{source.rstrip('/')}/"):
            return path[len(source.rstrip("/")) + 1 :]
        raise SourceError(
            f"{KEY} names files of another place than the source.",
            got=path,
            expected=f"paths relative to the source, or URLs that start with {source.rstrip('/')}/",
            fix="Copy the files to the source, and write their paths from there.",
        )
    if path.startswith(("/", "~")) or path[1:3] == ":\\":
        raise SourceError(
            f"{KEY} names files by where they lie on one machine.",
            got=path,
            expected="paths relative to the source, such as cam1/0001.png",
            fix="Remove the beginning of the paths.",
        )
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", "/".join(parts))


def _check_columns(columns: Sequence[str]) -> None:
    if unknown := [name for name in columns if name not in COLUMNS]:
        near = get_close_matches(unknown[0], COLUMNS, n=1, cutoff=0.6)
        raise SourceError(
            f"{KEY} has a column {unknown[0]!r}.",
            got=",".join(columns),
            expected=f"{','.join(COLUMNS)}, or some of them",
            fix=f"Rename the column to {near[0]}, or remove it."
            if near
            else f"Remove the column. If this is another kind of list, call the file otherwise than {KEY}.",
        )
    if len(set(columns)) < len(columns):
        raise _malformed(f"a column twice: {','.join(columns)}")
    if "image" not in columns or not {"label", "mask"} & set(columns):
        raise _malformed(f"the columns {','.join(columns)}")


def _check_values(rows: Sequence[Row], columns: Sequence[str]) -> None:
    for column, read_value, fix in (
        ("label", _label, "Write OK or NG. The name of a defect belongs into the column class."),
        ("split", _split, "Write one of these, or nothing to have the picture split by hash."),
    ):
        unknown = [row for row in rows if (value := getattr(row, column)) and not read_value(value)]
        if unknown:
            raise SourceError(
                f"{KEY} has values in the column {column} that are unknown.",
                got=_some([f"line {row.line}: {getattr(row, column)}" for row in unknown]),
                expected="OK or NG" if column == "label" else ", ".join(SPLITS),
                fix=fix,
            )
    first: dict[str, Row] = {}
    for row in rows:
        if first.setdefault(row.image, row) is not row:
            raise SourceError(
                f"{KEY} names a picture twice.",
                got=f"{row.image} in the lines {first[row.image].line} and {row.line}",
                expected="one row a picture",
                fix="Remove one. Several classes in a picture stand in one mask as 1, 2, …, and in the "
                "column class as their names in this order: scratch;dent.",
            )
    if unnamed := [row for row in rows if not row.image]:
        raise _malformed(f"no image in line {unnamed[0].line}")


def _wrong(
    row: Row, image: Object | None, mask: Object | None, near: Mapping[str, str]
) -> tuple[str, str] | None:
    """Why a row cannot be used, and the fix.

    `near` maps names without their folders, in lower case, to keys.
    """
    for path, found in (row.image, image), (row.mask, mask):
        if path and not found:
            alike = near.get(_name(path))
            return f"no file {path}.", f"Write {alike}, if that is meant." if alike else "Add the file."
    if not mask and not row.label:
        return "neither a label nor a mask.", "Write OK or NG into the column label, or name a mask."
    if len(_names(row.kind)) > MOST_CLASSES:
        return f"{len(_names(row.kind))} classes.", f"Give at most {MOST_CLASSES}."
    return None


def _names(kind: str) -> list[str]:
    return [name for name in (part.strip() for part in kind.split(";")) if name]


def _legend(kind: str) -> str:
    """One class, whatever the mask marks, or the names of its values 1, 2, …"""
    names = _names(kind)
    return write_legend(names[0] if len(names) == 1 else names)


def _label(text: str) -> str:
    return "OK" if means_good(text) else "NG" if means_bad(text) else ""


def _split(text: str) -> str:
    return SPLIT_NAMES.get(text.lower(), "")


def _name(path: str) -> str:
    return PurePosixPath(path).name.casefold()


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()


def _malformed(got: str) -> SourceError:
    return SourceError(
        f"{KEY} cannot be read.",
        got=got,
        expected=f"text in UTF-8 with the first line {','.join(COLUMNS)}, of which image and either label or "
        "mask are needed, and then one row a picture",
        fix="Save it as CSV UTF-8 with commas.",
    )


def _some(rows: Sequence[str]) -> str:
    return "; ".join(rows[:SHOWN]) + (f"; {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
