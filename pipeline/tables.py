"""Tables and facts on the command line, and the same as JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from defectline.pipeline.screen import console

NOTHING = "–"
COLOURS = {
    **dict.fromkeys(("champion", "deployed", "ok", "SUCCEEDED"), "green"),
    **dict.fromkeys(("refused", "failed", "incomplete", "wrong", "FAILED"), "red"),
    **dict.fromkeys(("unfinished", "running", "RUNNING"), "yellow"),
}
"""Of the words that say how something stands."""


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print a line a row. Columns in `numbers` stand to the right, those in `whole` are never broken."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in whole,
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print a fact a line, with its title."""
    shown = [(title, _cell(value)) for title, value in facts if value not in ("", None)]
    width = max(len(title) for title, _ in shown)
    for title, value in shown:
        console.print(f"[dim]{title:{width}}[/] {value}", soft_wrap=True)


def _cell(value: object) -> str:
    text = number(value) if value is None or isinstance(value, float | int) else escape(str(value))
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else text


def number(value: object) -> str:
    """A metric as people read it."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def day(time: str) -> str:
    """A time in ISO 8601 as `2026-11-22 10:15`, in UTC; empty for an empty one."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}" if time else ""


def print_json(value: Any) -> None:
    """Print one JSON value; named tuples must have been made dictionaries."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def complain(text: str) -> None:
    """Print a line for people where it does not mix with what programs read."""
    typer.echo(text, err=True)
