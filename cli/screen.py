"""What the command line shows."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from defectline.components.common import layout
from defectline.components.common.storage import open_storage

if TYPE_CHECKING:
    from defectline.client.batch import Inspected
    from defectline.pipeline.catalog.snapshots import Change, SnapshotRow
    from defectline.pipeline.crossval import Judged
    from defectline.pipeline.kfp_server.runs import Step, Watch
    from defectline.pipeline.kfp_server.schedules import Schedule
    from defectline.pipeline.local import LocalRun, RunFailed
    from defectline.pipeline.parameters import Parameters

console = Console(highlight=False)
KINDS = ("added", "removed", "content", "name", "label", "split", "status")
"""In what two snapshots may differ."""
REGIONS = "regions: x, y, width, height, area px"
CROSS_VALIDATED = ("iou", "dice", "image_iou", "region_recall", "image_auroc", "escape", "overkill")
STATES = {
    "deployed": "[bold green]deployed[/]",
    "nothing_new": "[bold]nothing new[/]",
    "refused": "[bold red]refused by the gate[/]",
}


def say(text: str) -> None:
    console.print(f"[dim]▸[/] {escape(text)}", soft_wrap=True)


def show_run(done: "LocalRun", parameters: "Parameters") -> None:
    """The steps, the gate's verdict with its reasons, the metrics, the report, and what to type next."""
    store = open_storage(parameters.store)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("what it did")
    for step in done.steps:
        table.add_row(step.step, f"{step.seconds:.1f}", escape(step.summary))
    total = sum(step.seconds for step in done.steps)
    table.add_row("[dim]in all[/]", f"[dim]{total:.1f}[/]", "")
    console.print()
    console.print(table)
    console.print()
    if done.outcome.state in ("deployed", "refused"):
        _show_gate(json.loads(store.read(layout.run_key(done.run, layout.GATE))))
        _show_metrics(json.loads(store.read(layout.run_key(done.run, layout.METRICS))))
    console.print(f"{STATES[done.outcome.state]}: {escape(done.outcome.reason)}", soft_wrap=True)
    if done.outcome.state == "nothing_new":
        console.print("[dim]--force trains all the same[/]")
    if done.outcome.version:
        console.print(f"[dim]model   [/] {parameters.model_name} {done.outcome.version}")
    console.print(f"[dim]store   [/] {escape(store.uri)}", soft_wrap=True)
    pictures = store.url(layout.run_key(done.run, layout.PICTURES))
    console.print(f"[dim]pictures[/] {escape(pictures)}", soft_wrap=True)
    if done.outcome.state != "nothing_new":
        report = store.url(layout.run_key(done.run, layout.REPORT))
        console.print(f"[dim]report  [/] {escape(report)}", soft_wrap=True)
    console.print(f"[dim]next    [/] [bold]{escape(_next_command(done, parameters))}[/]", soft_wrap=True)


def _next_command(done: "LocalRun", parameters: "Parameters") -> str:
    if not done.outcome.version:
        return "open the report; add pictures or correct masks; then run again"
    options = [] if parameters.store in ("./store", "store") else ["--store", parameters.store]
    options += [] if parameters.model_name == "defects" else ["--name", parameters.model_name]
    return shlex.join([sys.argv[0], "serve", *options]) if options else "make serve"


def _show_gate(rules: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("gate", "got", "needed", "", "reason"):
        table.add_column(column, justify="right" if column == "got" else "left")
    for rule in rules:
        mark = "[green]passed[/]" if rule["passed"] else "[red]failed[/]"
        table.add_row(rule["name"], _number(rule["got"]), rule["needed"], mark, escape(rule["reason"]))
    console.print(table)
    console.print()


def _show_metrics(metrics: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("metric", "test", "95 % interval", "validation", "champion"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    champion = metrics["champion_test"] or {}
    for name, value in metrics["test"].items():
        span = metrics["test_intervals_95"].get(name)
        table.add_row(
            {"ng": "NG pictures", "ok": "OK pictures"}.get(name, name),
            _number(value),
            f"{span[0]:.3f} to {span[1]:.3f}" if span else "",
            _number(metrics["validation"][name]),
            _number(champion[name]) if champion else "",
        )
    console.print(table)
    console.print()


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def show_failure(error: "RunFailed") -> None:
    """Where a fault of ours happened."""
    console.print(escape(error.detail), soft_wrap=True)
    console.print(f"[bold red]{escape(str(error))}[/]", soft_wrap=True)


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


def show_predictions(done: Sequence["Inspected"], overlays: Path | None, csv: Path | None = None) -> None:
    """One line a picture with its regions, and where the drawn findings lie."""
    answered = [(one.picture, one.prediction) for one in done if one.prediction]
    if answered:
        graded = any(found.grade for _, found in answered)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("picture", "verdict", "score", *["grade"] * graded, "area px", REGIONS):
            numeric = column in ("score", "area px")
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for picture, found in answered:
            colour = "red" if found.verdict == "NG" else "green"
            table.add_row(
                escape(f"{picture.absolute().parent.name}/{picture.name}"),
                f"[{colour}]{found.verdict}[/]",
                f"{found.score:.3f}",
                *[found.grade or ""] * graded,
                str(found.defect_area_px),
                "\n".join(", ".join(map(str, [*r.bbox, r.area_px])) for r in found.regions),
            )
        console.print(table)
    if answered and overlays:
        console.print(f"[dim]drawn in[/] {escape(str(overlays))}/", soft_wrap=True)
    if csv:
        console.print(f"[dim]table in[/] {escape(str(csv))}", soft_wrap=True)


def show_cross_validation(judged: Sequence["Judged"]) -> None:
    """One line a seed, their mean and spread, and the pictures that were judged wrong."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("seed")
    for name in CROSS_VALIDATED:
        table.add_column(name.replace("_", " "), justify="right")
    metrics = [one.metrics for one in judged]
    for one, found in zip(judged, metrics, strict=True):
        table.add_row(str(one.seed), *(_number(found[name]) for name in CROSS_VALIDATED))
    for title, of in (("mean", mean), ("spread", stdev)):
        if len(judged) > 1:
            table.add_row(f"[dim]{title}[/]", *(_over(of, metrics, name) for name in CROSS_VALIDATED))
    console.print(table)
    for one in judged:
        wrong = [f"{c.id} ({c.score:.2f})" for c in one.counts if c.missed]
        pictures = f"{len(one.counts)} pictures: {escape(', '.join(wrong)) or 'none'}"
        console.print(f"[dim]seed {one.seed}, wrong or missed of[/] {pictures}")
    console.print("[dim]spread is the standard deviation over seeds; in brackets the score[/]")


def _over(of: Callable[[list[float]], float], metrics: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [found[name] for found in metrics]
    return _number(None if None in values else of(values))


def show_snapshots(rows: Sequence["SnapshotRow"]) -> None:
    """One line a snapshot, the oldest first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "snapshot", "date", "pairs", "new", "rejected", "models"):
        numeric, whole = column in ("pairs", "new", "rejected"), column in ("snapshot", "date")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(
            "→" if row.head else "",
            row.snapshot.id,
            f"{datetime.fromisoformat(row.snapshot.created):%Y-%m-%d %H:%M:%S}",
            f"{row.snapshot.accepted:,}",
            f"{row.new:,}",
            f"{row.snapshot.rejected:,}",
            escape("\n".join(row.models)),
        )
    console.print(table)
    console.print("[dim]→ is the newest; dates are UTC; new: pairs that the one before has not[/]")


def show_difference(before: str, after: str, changes: Sequence["Change"]) -> None:
    """How many pairs differ in what, then each of them."""
    console.print(f"from [bold]{before}[/] to [bold]{after}[/]")
    counts = Counter(kind for change in changes for kind in change.kinds)
    for kind in KINDS:
        console.print(f"{counts[kind]:>8,}  {kind}")
    if not changes:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("pair", "change", "what"):
        table.add_column(column, overflow="fold")
    for change in changes:
        table.add_row(escape(change.id), ", ".join(change.kinds), escape(change.what))
    console.print()
    console.print(table)


def show_schedules(schedules: Sequence["Schedule"], time_zone: str) -> None:
    """One line a recurring run, with its next three times."""
    for made in schedules:
        runs = "the latest version" if made.follows_latest else "one version"
        state = "" if made.enabled else "  [yellow]paused[/]"
        console.print(f"[bold]{escape(made.name)}[/]  {made.cron}  [dim]{runs}[/]{state}")
        for time in made.next_times:
            told = f"{time:%a %Y-%m-%d %H:%M:%S} {time_zone}"
            if time_zone != "UTC":
                told += f", {time.astimezone(UTC):%H:%M:%S} UTC"
            console.print(f"  {told}")
    if not schedules:
        console.print("no schedules")
    elif any(one.next_times for one in schedules):
        console.print("[dim]as long as KFP's controller keeps that time zone[/]")


@contextmanager
def live_steps() -> Iterator["Watch | None"]:
    """What draws the steps of a run anew at each look; None where there is no terminal."""
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda state, steps: live.update(_steps(state, steps), refresh=True)


def _steps(state: str, steps: Sequence["Step"]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step", no_wrap=True)
    table.add_column("minutes", justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column("")
    for step in steps:
        minutes = "" if step.minutes is None else f"{step.minutes:,.1f}"
        table.add_row(step.name, minutes, _coloured(step.state), escape(step.error))
    table.add_row("[dim]run[/]", "", _coloured(state), "")
    return table


def _coloured(state: str) -> str:
    colour = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red", "RUNNING": "yellow"}.get(state)
    return f"[{colour}]{state}[/]" if colour else state
