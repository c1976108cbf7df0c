"""splits.csv at the source's root: which picture goes into which split or group, where the source says so."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.steps import say
from defectline.components.ingest.readers.base import SPLITS_KEY, Listing

COLUMNS = ("id,split", "id,group", "id,split,group")
"""What the first line may be."""
SHOWN = 5
"""Rows that an error names."""


class Listed(NamedTuple):
    line: int
    """In the file, from 1."""
    id: str
    """`OK/00007_OK`, or the image's key `OK/00007_OK_Image.bmp`."""
    split: str
    """Empty where the row gives none."""
    group: str = ""
    """What the picture shares with others of the same part; empty where the row gives none."""

    def __str__(self) -> str:
        return f"line {self.line}: {','.join(filter(None, self[1:]))}"


NOT_LISTED = Listed(0, "", "")


def read_split_file(listing: Listing) -> list[Listed]:
    """The rows of the source's splits.csv; none where it is not in the listing.

    Raises SourceError where the file is malformed, a split is unknown, or a picture stands there twice
    with different splits or groups.
    """
    data = listing.read_for_all(SPLITS_KEY)
    return [] if data is None else parse_split_file(data)


def parse_split_file(data: bytes) -> list[Listed]:
    """The rows of a file with the columns id and split, group or both. Pure.

    Raises as `read_split_file` does.
    """
    rows = []
    try:
        # Spreadsheets put a byte order mark in front.
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [field.strip() for field in next(reader, [])]
        columns = [name.lower() for name in header]
        if ",".join(columns) not in COLUMNS:
            raise _malformed(f"the first line {','.join(header)!r}")
        for fields in reader:
            if any(field.strip() for field in fields):
                if len(fields) != len(columns):
                    raise _malformed(f"{len(fields)} columns in line {reader.line_num}: {','.join(fields)!r}")
                given = dict(zip(columns, (field.strip() for field in fields), strict=True))
                split, group = given.get("split", ""), given.get("group", "")
                rows.append(Listed(reader.line_num, given["id"], split, group))
    except UnicodeDecodeError as error:
        raise _malformed(f"bytes that are not UTF-8 at {error.start}") from error
    except csv.Error as error:
        raise _malformed(f"{error} in line {reader.line_num}") from error
    # Where there are groups as well, a row need not give a split.
    known = SPLITS if "group" not in columns else (*SPLITS, "")
    if unknown := [row for row in rows if row.split not in known]:
        raise SourceError(
            f"{SPLITS_KEY} names splits that there are not.",
            got=some(unknown),
            expected=", ".join(SPLITS),
            fix="Correct these rows.",
        )
    merged: dict[str, Listed] = {}
    for row in rows:
        _merge(merged, row.id, row)
    return rows


def _merge(merged: dict[str, Listed], name: str, row: Listed) -> None:
    """Add a row for the picture `name` to others for it. Raises SourceError where they contradict."""
    other = merged.setdefault(name, row)
    for what, one, two in (("splits", other.split, row.split), ("groups", other.group, row.group)):
        if one and two and one != two:
            raise SourceError(
                f"{SPLITS_KEY} gives the same picture two {what}.",
                got=some([other, row]),
                expected=f"one {what[:-1]} for a picture, and for all its copies",
                fix="Correct or remove one of the rows.",
            )
    merged[name] = other._replace(split=other.split or row.split, group=other.group or row.group)


def find_listed(listed: Iterable[Listed], rows: Iterable[Pair]) -> dict[str, Listed]:
    """Pixel hashes to what is said of these pictures, where anything is. Pure.

    `rows` are the source's pairs, accepted or not. Raises SourceError where one picture is given two splits
    or two groups.
    """
    pixels = _pixels_by_name(rows)
    merged: dict[str, Listed] = {}
    for row in listed:
        # A picture that could not be read has neither.
        if found := _find(pixels, row):
            _merge(merged, found, row)
    return merged


def _pixels_by_name(rows: Iterable[Pair]) -> dict[str, str]:
    pixels: dict[str, str] = {}
    for pair in rows:
        pixels[pair.id] = pair.pixel_sha256
        if pair.image_key:
            pixels[pair.image_key] = pair.pixel_sha256
    return pixels


def _find(pixels: Mapping[str, str], row: Listed) -> str | None:
    return pixels.get(row.id, pixels.get(unicodedata.normalize("NFC", row.id)))


def known_splits(listed: Sequence[Listed], rows: Iterable[Pair], known: Mapping[str, str]) -> dict[str, str]:
    """Pixel hashes to splits: those of earlier snapshots, and those that `listed` gives to new pictures.

    `rows` are the source's pairs, accepted or not. Rows of the list whose picture is not among them are
    counted in one line. Raises SourceError where they are all that are listed, and where one picture is given
    two splits, or another one than an earlier snapshot gave it.
    """
    if not listed:
        return dict(known)
    rows = list(rows)
    given = {found: row for found, row in find_listed(listed, rows).items() if row.split}
    contradicted = [
        f"{row}, but it is in {known[found]}"
        for found, row in sorted(given.items(), key=lambda item: item[1])
        if known.get(found, row.split) != row.split
    ]
    pixels = _pixels_by_name(rows)
    missing = sum(_find(pixels, row) is None for row in listed)
    if contradicted:
        raise SourceError(
            f"{SPLITS_KEY} moves pictures that have a split already.",
            got=some(contradicted),
            expected="the split that an earlier snapshot gave, which is permanent",
            fix="Correct or remove these rows, or start a new store.",
        )
    if missing == len(listed):
        raise SourceError(
            f"No row of {SPLITS_KEY} names a picture of the source.",
            got=some(listed),
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
        expected="a text in UTF-8 with the first line id,split or id,group or id,split,group, and then rows "
        "such as OK/00007_OK,train",
        fix="Save it as CSV UTF-8 with commas, or remove it.",
    )


def some(rows: Sequence[object]) -> str:
    return "; ".join(map(str, rows[:SHOWN])) + (f"; {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
