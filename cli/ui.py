"""What the command line prints: lines, tables, facts, a bar, and JSON for programs.

Only `say` and `warn` may be given to the pipeline. Commands import this file when they run, as it needs rich.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from defectline.components.common.errors import SettingsError

if TYPE_CHECKING:
    from defectline.pipeline.local import RunFailed

PIPED_WIDTH = 160
"""Of a table that no screen limits; rich's own 80 breaks its headings."""
console = Console(
    highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
)
NOTHING = "–"
COLOURS = {
    **dict.fromkeys(("champion", "deployed", "ok", "OK", "done", "passed"), "green"),
    **dict.fromkeys(("refused", "failed", "incomplete", "wrong", "NG", "stopped", "lost"), "red"),
    **dict.fromkeys(("unfinished", "running", "waiting", "waiting to start", "LOOK"), "yellow"),
}
"""Of the words that tell a state."""
BELOW_WIDTH = 50
"""The room that the columns which may come below want beside the others."""


def say(text: str) -> None:
    """Print a line about what is going on, to stdout."""
    console.print(f"[dim]▸[/] {escape(text)}", soft_wrap=True)


def warn(text: str, *, bad: bool = False) -> None:
    """Print a line to stderr, where it does not mix with what programs read; a `bad` one is red."""
    typer.secho(text, err=True, fg=typer.colors.RED if bad else None)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
    below: Sequence[str] = (),
) -> None:
    """Print a line a row. Columns in `numbers` are on the right, those in `whole` are never broken, and
    those in `below` come under their row where the screen is too narrow for all."""
    cells = [tuple(map(_cell, row)) for row in rows]
    places = [place for place, column in enumerate(columns) if column not in below]
    kept = [columns[place] for place in places]
    # Where no cell is broken, each row is one line.
    narrow = make_table(kept, [tuple(row[place] for place in places) for row in cells], numbers, kept)
    width = Measurement.get(console, console.options.update(width=1000), narrow).maximum
    if not below or width + BELOW_WIDTH <= console.width:
        console.print(make_table(columns, cells, numbers, whole))
        return
    with console.capture() as captured:
        # A terminal breaks a line that is too long; cut, a name could not be copied.
        before, console.width = console.width, max(width, console.width)
        console.print(narrow)
        console.width = before
    header, *lines = captured.get().splitlines()
    console.out(header, highlight=False)
    for line, row in zip(lines, cells, strict=True):
        console.out(line, highlight=False)
        more = "  ".join(row[columns.index(column)] for column in below if row[columns.index(column)])
        if more:
            console.print(Padding(more, (0, 0, 0, 2)))


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """The table that `table` prints, of cells that are text with rich's markup."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in whole,
        )
    for row in rows:
        made.add_row(*map(str, row))
    return made


def gate_table(rules: Iterable[Mapping[str, Any]]) -> None:
    """Print what each rule of the gate wanted and got: the content of a run's gate.json."""
    rows = [
        (
            rule["name"],
            rule["got"],
            rule["needed"],
            "passed" if rule["passed"] else "failed",
            rule["reason"],
        )
        for rule in rules
    ]
    table(("gate", "got", "needed", "", "reason"), rows, numbers=("got",))


def facts(found: Iterable[tuple[str, object]]) -> None:
    """Print a fact a line, with its title; empty ones are left out."""
    shown = [(title, _cell(value)) for title, value in found if value not in ("", None)]
    width = max(len(title) for title, _ in shown)
    for title, value in shown:
        console.print(f"[dim]{title:{width}}[/] {value}", soft_wrap=True)


def note(text: str) -> None:
    """Print a line below a table that says how to read it."""
    console.print(f"[dim]{escape(text)}[/]", soft_wrap=True)


def coloured(text: str) -> str:
    """The text as markup; in colour where it is one of COLOURS."""
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)


def _cell(value: object) -> str:
    return number(value) if value is None or isinstance(value, float | int) else coloured(str(value))


def number(value: object) -> str:
    """A metric or a count as people read it."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def day(time: str) -> str:
    """A time in ISO 8601 as `2026-11-22 10:15`, in UTC; empty for an empty one."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}" if time else ""


def print_json(value: Any) -> None:
    """Print one JSON value; named tuples must have been made dictionaries."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def ask_reason() -> str:
    """Why somebody decided. Raises SettingsError where there is nobody to ask, or no answer."""
    found = typer.prompt("Why?", default="", show_default=False).strip() if sys.stdin.isatty() else ""
    if not found:
        raise SettingsError(
            "The reason is missing.",
            got="none",
            expected="a sentence, which the log keeps",
            fix="Give it with --reason.",
        )
    return found


def end_failed(error: "RunFailed") -> NoReturn:
    """Print where the internal error happened, and end with exit status 1."""
    console.print(escape(error.detail), soft_wrap=True)
    console.print(f"[bold red]{escape(str(error))}[/]", soft_wrap=True)
    raise typer.Exit(1) from None


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal, and a function that says that one more is done; silent elsewhere."""
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(what, total=total)
        yield lambda: shown.advance(task)
