"""A study: pictures of parts, several of each, what each part truly is, and what people called it.

A CSV with the columns image, part, truth and, for each person, one column more; `anna:2` is what Anna said
when she saw the same pictures again. Verdicts are OK, NG or LOOK; empty where somebody was not asked.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.files import read_file
from defectline.components.common.prediction import VERDICTS

COLUMNS = ("image", "part", "truth")


class Picture(NamedTuple):
    path: Path
    part: str
    truth: str
    """OK or NG."""
    said: dict[str, str]
    """Column of a person → verdict; of those who were asked."""


def read_study(file: Path) -> list[Picture]:
    """Every picture of the CSV; paths are relative to its folder. Raises SettingsError."""
    try:
        text = read_file(file, "a CSV with the columns image, part, truth").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong(file, "text that is not UTF-8", "UTF-8") from None
    rows = list(csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True))
    columns = list(rows[0]) if rows else []
    if missing := [name for name in COLUMNS if name not in columns]:
        raise _wrong(file, f"no column {', '.join(missing)}", f"the columns {', '.join(COLUMNS)}")
    people = [name for name in columns if name and name not in COLUMNS]
    pictures = [_picture(file, number, row, people) for number, row in enumerate(rows, start=2)]
    _check_parts(file, pictures)
    return pictures


def _picture(file: Path, line: int, row: dict[str, str], people: Sequence[str]) -> Picture:
    if None in row or None in row.values():
        raise _wrong(file, f"line {line} with another number of fields", "a field a column")
    path = file.parent / row["image"].strip()
    if not row["image"].strip() or not path.is_file():
        expected = f"a path from {file.parent}, or one that begins with /"
        raise _wrong(file, f"line {line}: no file {row['image']!r}", expected)
    if not row["part"].strip():
        raise _wrong(file, f"line {line} without a part", "what tells parts apart")
    truth = row["truth"].strip().upper()
    if truth not in LABELS:
        raise _wrong(file, f"line {line}: the truth {row['truth']!r}", " or ".join(LABELS))
    said = {name: row[name].strip().upper() for name in people if row[name].strip()}
    for name, verdict in said.items():
        if verdict not in VERDICTS:
            raise _wrong(file, f"line {line}: {name} said {verdict!r}", f"{', '.join(VERDICTS)}, or nothing")
    return Picture(path, row["part"].strip(), truth, said)


def _check_parts(file: Path, pictures: Sequence[Picture]) -> None:
    """A part is either good or not."""
    truths: dict[str, set[str]] = defaultdict(set)
    for one in pictures:
        truths[one.part].add(one.truth)
    if both := sorted(part for part, found in truths.items() if len(found) > 1):
        raise _wrong(file, f"the part {both[0]} with two truths", "one truth for all pictures of a part")
    if not pictures:
        raise _wrong(file, "no picture", "at least one")


def by_part(pictures: Sequence[Picture]) -> dict[str, list[int]]:
    """Part → the places of its pictures."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(pictures):
        found[one.part].append(place)
    return dict(found)


def _wrong(file: Path, got: str, expected: str) -> SettingsError:
    return SettingsError(
        f"The study {file} cannot be used.", got=got, expected=expected, fix="Correct the file."
    )
