"""`defectline metrics`"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Json, Store

if TYPE_CHECKING:
    from defectline.pipeline.catalog.runs import Run


def metrics(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…",
            help="ID prefixes are accepted. Default: the latest five that were judged.",
            autocompletion=completion.runs,
        ),
    ] = None,
    store: Store = "./store",
    plot: Annotated[Path | None, typer.Option(help="Draw bars with intervals to this PNG.")] = None,
    json_: Json = False,
) -> None:
    """Compare the test metrics of runs, and what the gate said."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog import runs as running

    found = running.find_judged(open_storage(store), run or [], ui.warn)
    if plot:
        running.plot(found, plot)
    if json_:
        return ui.print_json(running.compare(found))
    show_metrics(found)
    if plot:
        ui.warn(f"drawn in {plot}")


def show_metrics(runs: Sequence["Run"]) -> None:
    """A line a run: test metrics with 95 % intervals, and the rules of the gate that failed. Then, where a
    run has several classes, a line for each of them."""
    from defectline.cli import ui

    rows = []
    for run in runs:
        test, spans = run.metrics.get("test") or {}, run.metrics.get("test_intervals_95") or {}
        failed = [rule["name"] for rule in run.gate if not rule["passed"]]
        numbers = (_with_interval(test.get(name), spans.get(name)) for name in ("iou", "escape", "overkill"))
        rows.append((run.id, *numbers, ", ".join(failed) or ("passed" if run.gate else ui.NOTHING)))
    ui.table(("run", "IoU", "escape", "overkill", "gate"), rows)
    ui.note("on each run's own test pictures; below each number its 95 % interval")
    several = [run for run in runs if run.metrics.get("test_classes")]
    for run in several:
        ui.note(f"{run.id} by class:")
        columns = ("class", "pictures", "escape", "IoU", "regions", "found", "as this class", "")
        ui.table(columns, _class_rows(run), numbers=columns[1:-1])
    if several:
        ui.note("escape: of pictures with the class; found: of its regions; as this class: of those found")


def _class_rows(run: "Run") -> Iterator[tuple[object, ...]]:
    for name, of in run.metrics["test_classes"].items():
        keys = ("pictures", "escape", "iou", "regions", "region_recall", "region_class")
        yield name, *(of[key] for key in keys), "too rare" if of["rare"] else ""


def _with_interval(value: float | None, span: Sequence[float] | None) -> str:
    from defectline.cli import ui

    return ui.number(value) + (f"\n{span[0]:.2f} – {span[1]:.2f}" if span else "")
