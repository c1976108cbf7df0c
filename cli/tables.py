"""Tables and facts on the command line, and the same as JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from defectline.cli.screen import console

if TYPE_CHECKING:
    from defectline.pipeline.catalog.inventory import Run
    from defectline.pipeline.catalog.lineage import Origin, Traces
    from defectline.pipeline.catalog.prune import Item, Plan
    from defectline.pipeline.catalog.review import Item as Frame
    from defectline.pipeline.doctor import Finding

NOTHING = "–"
COLOURS = {
    **dict.fromkeys(("champion", "deployed", "ok", "OK", "SUCCEEDED"), "green"),
    **dict.fromkeys(("refused", "failed", "incomplete", "wrong", "NG", "FAILED"), "red"),
    **dict.fromkeys(("unfinished", "running", "RUNNING"), "yellow"),
}
"""Of the words that say how something stands."""
BELOW_WIDTH = 50
"""The room that the columns which may come below want beside the others."""


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
    below: Sequence[str] = (),
) -> None:
    """Print a line a row. Columns in `numbers` stand to the right, those in `whole` are never broken, and
    those in `below` come under their row where the screen is too narrow for all."""
    cells = [tuple(map(_cell, row)) for row in rows]
    places = [place for place, column in enumerate(columns) if column not in below]
    kept = [columns[place] for place in places]
    # Where no cell is broken, each row is one line.
    narrow = _table(kept, [tuple(row[place] for place in places) for row in cells], numbers, kept)
    width = Measurement.get(console, console.options.update(width=1000), narrow).maximum
    if not below or width + BELOW_WIDTH <= console.width:
        console.print(_table(columns, cells, numbers, whole))
        return
    with console.capture() as captured:
        console.print(narrow)
    header, *lines = captured.get().splitlines()
    console.out(header, highlight=False)
    for line, row in zip(lines, cells, strict=True):
        console.out(line, highlight=False)
        more = "  ".join(row[columns.index(column)] for column in below if row[columns.index(column)])
        if more:
            console.print(Padding(more, (0, 0, 0, 2)))


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str], whole: Sequence[str]
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in whole,
        )
    for row in rows:
        table.add_row(*row)
    return table


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


def show_origin(origin: "Origin", images: bool) -> None:
    """A model's run, snapshot, pictures and gate."""
    from defectline.pipeline.catalog.lineage import count

    model, run, snapshot = origin.model, origin.run, origin.snapshot
    show_facts(
        [
            ("model", f"{model.name} {model.version}"),
            ("state", model.state + (f", serves on {', '.join(model.served_by)}" if model.served_by else "")),
            ("run", f"{run.id}, {day(run.began)} to {day(run.ended)} UTC" if run else "gone"),
            ("outcome", run.outcome.reason if run and run.outcome else ""),
            ("compared with", run.metrics.get("champion") if run else ""),
            ("snapshot", snapshot.id if snapshot else f"{model.snapshot or 'not known'} (gone)"),
            ("taken", f"{day(snapshot.created)} UTC" if snapshot else ""),
            ("source", snapshot.source if snapshot else ""),
        ]
    )
    if snapshot:
        console.print()
        rows = [(split, *labels.values()) for split, labels in count(origin.pictures).items()]
        show_table(("pictures", "OK", "NG"), rows, numbers=("OK", "NG"))
    if run and run.gate:
        console.print()
        show_table(
            ("gate", "got", "needed", "", "reason"),
            [
                (r["name"], r["got"], r["needed"], "passed" if r["passed"] else "failed", r["reason"])
                for r in run.gate
            ],
            numbers=("got",),
        )
    if images:
        console.print()
        show_table(
            ("pair", "split", "SHA-256", "verdict", "score"),
            [
                (
                    one.id,
                    one.split,
                    one.image_sha256[:12],
                    one.verdict,
                    "" if one.score is None else one.score,
                )
                for one in origin.pictures
            ],
            numbers=("score",),
            whole=("split", "SHA-256"),
        )


def show_traces(traces: "Traces") -> None:
    """The snapshots, models and frame of a picture."""
    if traces.snapshots:
        show_table(
            ("", "snapshot", "date", "pair", "split", "SHA-256"),
            [
                (
                    "→" if one.newest else "",
                    one.snapshot,
                    day(one.created),
                    one.id,
                    one.split
                    if one.status == "accepted"
                    else f"{one.status}: {one.reason}"
                    if one.reason
                    else one.status,
                    one.image_sha256[:12],
                )
                for one in traces.snapshots
            ],
            whole=("snapshot", "date", "SHA-256"),
        )
    else:
        console.print("in no snapshot")
    console.print()
    if traces.models:
        show_table(
            ("model", "version", "state", "was", "verdict", "score"),
            [
                (
                    one.name or NOTHING,
                    one.version,
                    one.state,
                    one.use,
                    one.verdict,
                    "" if one.score is None else one.score,
                )
                for one in traces.models
            ],
            numbers=("score",),
            whole=("version", "state"),
        )
    else:
        console.print("no model was trained or judged on it")
    for frame in traces.frames:
        console.print()
        show_facts(
            [
                ("frame", f"{frame.id} of {day(frame.taken)} UTC"),
                ("answer", f"{frame.verdict} by {frame.model} {frame.version}"),
                ("kept", frame.reason.replace("_", " ")),
                ("decided", frame.decided or "not yet"),
                ("exported", ", ".join(frame.exported)),
            ]
        )


def show_pruning(plan: "Plan", items: Sequence["Item"], removed: bool) -> None:
    """What stays and why, then what goes or is gone."""
    if plan.kept:
        show_table(("kept", "because"), list(plan.kept.items()), whole=("kept",))
        console.print()
    if items:
        rows = [(one.kind, one.name, _size(one.size), one.reason) for one in items]
        show_table(("removed" if removed else "to remove", "", "size", "because"), rows, numbers=("size",))
        console.print()
    what = f"{len(items)} things, {_size(sum(one.size for one in items))}"
    if removed:
        console.print(f"removed: {what}")
    elif plan.under_way:
        console.print(
            f"a run is under way: {escape(', '.join(plan.under_way[:3]))}; nothing can be removed\n"
            "if it was killed: --age DAYS says after how long a run without an end is taken for that"
        )
    else:
        console.print(f"{what}; nothing was removed, --yes does it" if items else "nothing to remove")


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def show_metrics(runs: Sequence["Run"]) -> None:
    """A line a run: test metrics with 95 % intervals, and the rules of the gate that failed."""
    rows = []
    for run in runs:
        test, spans = run.metrics.get("test") or {}, run.metrics.get("test_intervals_95") or {}
        failed = [rule["name"] for rule in run.gate if not rule["passed"]]
        numbers = (_with_interval(test.get(name), spans.get(name)) for name in ("iou", "escape", "overkill"))
        rows.append((run.id, *numbers, ", ".join(failed) or ("passed" if run.gate else NOTHING)))
    show_table(("run", "IoU", "escape", "overkill", "gate"), rows)
    console.print("[dim]on each run's own test pictures; below each number its 95 % interval[/]")


def _with_interval(value: float | None, span: Sequence[float] | None) -> str:
    return number(value) + (f"\n{span[0]:.2f} – {span[1]:.2f}" if span else "")


def show_review(items: Sequence["Frame"]) -> None:
    """One line a frame, the oldest first."""
    if not items:
        console.print("no frames for review")
        return
    rows = [
        (
            item.frame.id[:12],
            f"{datetime.fromisoformat(item.frame.taken):%Y-%m-%d %H:%M:%S}",
            item.frame.prediction["verdict"],
            item.frame.prediction["score"],
            item.frame.threshold,
            item.frame.reason.replace("_", " "),
            item.frame.version,
            item.state,
        )
        for item in items
    ]
    columns = ("id", "date", "verdict", "score", "threshold", "kept", "version", "state")
    show_table(columns, rows, numbers=("score", "threshold"), whole=columns, below=("kept", "version"))
    console.print("[dim]ids are cut short, which every command understands; dates are UTC[/]")


def show_finding(finding: "Finding") -> None:
    """A line for what is well; what is wrong gets its fix below."""
    mark = "[green]ok   [/]" if finding.ok else "[red]wrong[/]"
    console.print(f"{mark} {finding.check:12} {escape(finding.found)}", soft_wrap=True)
    if finding.fix:
        console.print(f"{'fix:':>17}  {escape(finding.fix)}", soft_wrap=True)
