"""What the suite found, for people: a table in the terminal, and the same as Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}


class Row(NamedTuple):
    test: str
    result: str
    """One of MARKS."""
    seconds: float
    found: str
    """One line: what was seen, why it failed, or what is missing."""


def title(name: str) -> str:
    """`test_a_wrong_source` as people read it."""
    return name.removeprefix("test_").replace("_", " ")


def first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else ""


def as_text(rows: Sequence[Row]) -> str:
    width = max((len(title(row.test)) for row in rows), default=0)
    return "\n".join(
        f"{MARKS[row.result]} {title(row.test):{width}} {row.seconds:6.0f} s  {row.found}" for row in rows
    )


def as_markdown(rows: Sequence[Row], where: str, left: Sequence[str]) -> str:
    """`where` says which cluster; `left` is what could not be removed."""
    counts = ", ".join(f"{sum(row.result == kind for row in rows)} {kind}" for kind in MARKS)
    lines = [
        "# A cluster, tried",
        "",
        f"{where}: {counts}, {sum(row.seconds for row in rows) / 60:.0f} min.",
        "",
        "| | what was tried | s | what was found |",
        "|---|---|---|---|",
    ]
    for row in rows:
        found = row.found.replace("|", "\\|")
        lines.append(f"| {MARKS[row.result]} | {title(row.test)} | {row.seconds:.0f} | {found} |")
    lines += ["", "Left behind: " + ("; ".join(left) or "nothing") + ".", ""]
    return "\n".join(lines)
