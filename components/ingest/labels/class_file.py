"""classes.csv at the source's root: what the values of its masks are called."""

import csv
import io

from defectline.components.common.classes import IGNORE, IGNORED_CLASS, MOST_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.ingest.readers.base import CLASSES_KEY

COLUMNS = ["value", "name"]


def parse_class_file(data: bytes) -> str:
    """`Pair.legend` of the source's masks, from a file with the columns value and name. Pure.

    A file that names 255 alone is about black and white masks, of which all defects are one class. Raises
    SourceError where it is malformed.
    """
    names: dict[int, str] = {}
    try:
        # Spreadsheets put a byte order mark in front.
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise _malformed(f"bytes that are not UTF-8 at {error.start}") from error
    except csv.Error as error:
        raise _malformed(str(error)) from error
    rows = [[field.strip() for field in row] for row in rows]
    if not rows or [name.lower() for name in rows[0]] != COLUMNS:
        raise _malformed(f"the first line {','.join(rows[0]) if rows else ''!r}")
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(COLUMNS) or not row[0].isdecimal() or not row[1]:
            raise _malformed(f"line {number}: {','.join(row)!r}")
        value, name = int(row[0]), row[1]
        if value > MOST_CLASSES and value != IGNORE:
            expected = f"values from 0 to {MOST_CLASSES}, and 255"
            raise _malformed(f"the value {value} in line {number}", expected)
        if names.setdefault(value, name) != name:
            raise _malformed(f"two names of the value {value}: {names[value]} and {name}")
    names.pop(0, None)
    white = names.pop(IGNORE, IGNORED_CLASS)
    if not names:
        return "" if white == IGNORED_CLASS else write_legend(white)
    return write_legend([names.get(value, str(value)) for value in range(1, max(names) + 1)])


def _malformed(got: str, expected: str = "") -> SourceError:
    return SourceError(
        f"{CLASSES_KEY} cannot be read.",
        got=got,
        expected=expected or "a text in UTF-8 with the first line value,name and then rows such as 1,scratch",
        fix="Save it as CSV UTF-8 with commas, or remove it.",
    )
