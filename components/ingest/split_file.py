"""splits.csv at the source's root: which picture goes into which split, where the source decides that."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.steps import say
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.readers.folders import SPLITS_KEY

COLUMNS = ["id", "split"]
SHOWN = 5
"""Rows that an error names."""


class Listed(NamedTuple):
    line: int
    """In the file, from 1."""
    id: str
    """`OK/00007_OK`, or the image's key `OK/00007_OK_Image.bmp`."""
    split: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.id},{self.split}"


def read_split_file(source: Storage, objects: Iterable[Object]) -> list[Listed]:
    """The rows of the source's splits.csv; none where it is not among the source's `objects`.

    Raises SourceError where the file is malformed, a split is unknown, or a picture stands there twice
    with different splits.
    """
    keys = {item.key for item in objects}
    if SPLITS_KEY not in keys:
        if alike := sorted(key for key in keys if key.lower() == SPLITS_KEY):
            raise SourceError(
                f"{alike[0]} would be ignored.",
                got=alike[0],
                expected=f"{SPLITS_KEY}, in lower case, or no such file",
                fix="Rename it: a split that is given once is permanent.",
            )
        return []
    try:
        return parse_split_file(source.read(SPLITS_KEY))
    except KeyError:
        raise SourceError(
            f"{SPLITS_KEY} vanished before it was read.",
            got="no such file",
            expected="a source that does not change meanwhile",
            fix="Run again.",
        ) from None


def parse_split_file(data: bytes) -> list[Listed]:
    """The rows of a file with the columns id and split. Pure; raises as `read_split_file` does."""
    rows = []
    try:
        # Spreadsheets put a byte order mark in front.
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [field.strip() for field in next(reader, [])]
        if [name.lower() for name in header] != COLUMNS:
            raise _malformed(f"the first line {','.join(header)!r}")
        for fields in reader:
            if any(field.strip() for field in fields):
                if len(fields) != len(COLUMNS):
                    raise _malformed(f"{len(fields)} columns in line {reader.line_num}: {','.join(fields)!r}")
                rows.append(Listed(reader.line_num, *(field.strip() for field in fields)))
    except UnicodeDecodeError as error:
        raise _malformed(f"bytes that are not UTF-8 at {error.start}") from error
    except csv.Error as error:
        raise _malformed(f"{error} in line {reader.line_num}") from error
    if unknown := [row for row in rows if row.split not in SPLITS]:
        raise SourceError(
            f"{SPLITS_KEY} names splits that there are not.",
            got=_some(unknown),
            expected=", ".join(SPLITS),
            fix="Correct these rows.",
        )
    first: dict[str, Listed] = {}
    for row in rows:
        if first.setdefault(row.id, row).split != row.split:
            raise _two_sides([first[row.id], row])
    return rows


def known_splits(listed: Sequence[Listed], rows: Iterable[Pair], known: Mapping[str, str]) -> dict[str, str]:
    """Pixel hashes to splits: those of earlier snapshots, and those that `listed` gives to new pictures.

    `rows` are the source's pairs, accepted or not. Rows of the list whose picture is not among them are
    counted in one line. Raises SourceError where they are all that are listed, and where one picture is given
    two splits, or another one than an earlier snapshot gave it.
    """
    if not listed:
        return dict(known)
    pixels: dict[str, str] = {}
    for pair in rows:
        pixels[pair.id] = pair.pixel_sha256
        if pair.image_key:
            pixels[pair.image_key] = pair.pixel_sha256
    given: dict[str, Listed] = {}
    contradicted = []
    missing = 0
    for row in listed:
        found = pixels.get(row.id, pixels.get(unicodedata.normalize("NFC", row.id)))
        if found is None:
            missing += 1
        # A picture that could not be read has no split.
        elif found:
            if given.setdefault(found, row).split != row.split:
                raise _two_sides([given[found], row])
            if known.get(found, row.split) != row.split:
                contradicted.append(f"{row}, but it is in {known[found]}")
    if contradicted:
        raise SourceError(
            f"{SPLITS_KEY} moves pictures that have a split already.",
            got=_some(contradicted),
            expected="the split that an earlier snapshot gave, which is permanent",
            fix="Correct or remove these rows, or start a new store.",
        )
    if missing == len(listed):
        raise SourceError(
            f"No row of {SPLITS_KEY} names a picture of the source.",
            got=_some(listed),
            expected="ids such as OK/00007_OK, or the images' keys such as OK/00007_OK_Image.bmp",
            fix="Correct the first column, or remove the file to have the pictures split by hash.",
        )
    if missing:
        say(f"{SPLITS_KEY}: {missing} of {len(listed)} rows name pictures that are not in the source")
    return {**known, **{found: row.split for found, row in given.items()}}


def _malformed(got: str) -> SourceError:
    return SourceError(
        f"{SPLITS_KEY} cannot be read.",
        got=got,
        expected="a text in UTF-8 with the first line id,split and then rows such as OK/00007_OK,train",
        fix="Save it as CSV with commas, or remove it.",
    )


def _two_sides(rows: Sequence[Listed]) -> SourceError:
    return SourceError(
        f"{SPLITS_KEY} gives the same picture two splits.",
        got=_some(rows),
        expected="one split for a picture, and for all its copies",
        fix="Correct or remove one of the rows.",
    )


def _some(rows: Sequence[object]) -> str:
    return "; ".join(map(str, rows[:SHOWN])) + (f"; {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
