"""`defectline run`"""

import json
import shlex
from typing import TYPE_CHECKING, Any

import typer

from defectline.cli import hints
from defectline.cli.options import Config, FailOnGate, Force, Name, Set, Source, Store

if TYPE_CHECKING:
    from defectline.pipeline.local import LocalRun
    from defectline.pipeline.parameters import Parameters

STATES = {
    "deployed": "[bold green]deployed[/]",
    "nothing_new": "[bold]nothing new[/]",
    "kept": "[bold]kept[/]",
    "awaiting_approval": "[bold yellow]waits for approval[/]",
    "refused": "[bold red]refused by the gate[/]",
}


def run(
    source: Source = "",
    store: Store = "./store",
    name: Name = "defects",
    config: Config = None,
    set_: Set = None,
    force: Force = False,
    fail_on_gate: FailOnGate = False,
) -> None:
    """Run the whole pipeline on this machine."""
    from defectline.cli import ui
    from defectline.pipeline.local import RunFailed, run_locally
    from defectline.pipeline.parameters import parse

    parameters = parse(source, store, set_ or [], model_name=name, force=force)
    try:
        done = run_locally(parameters, ui.say)
    except RunFailed as error:
        ui.end_failed(error)
    show_run(done, parameters)
    if fail_on_gate and done.outcome.state == "refused":
        raise typer.Exit(3)


def show_run(done: "LocalRun", parameters: "Parameters") -> None:
    """The steps, the gate's verdict with its reasons, the metrics, the report, and what to type next."""
    from defectline.cli import ui
    from defectline.components.common import layout
    from defectline.components.common.storage import open_storage

    store = open_storage(parameters.store)
    rows = [(step.step, f"{step.seconds:.1f}", step.summary) for step in done.steps]
    rows.append(("in all", f"{sum(step.seconds for step in done.steps):.1f}", ""))
    ui.console.print()
    ui.table(("step", "seconds", "what it did"), rows, numbers=("seconds",))
    ui.console.print()
    judged = done.outcome.version
    if done.outcome.state in ("deployed", "kept", "refused", "awaiting_approval"):
        ui.gate_table(json.loads(store.read(layout.run_key(done.run, layout.GATE))))
        ui.console.print()
        metrics = json.loads(store.read(layout.run_key(done.run, layout.METRICS)))
        _show_metrics(metrics)
        ui.console.print()
        judged = metrics["version"]
    ui.console.print(f"{STATES[done.outcome.state]}: {ui.coloured(done.outcome.reason)}", soft_wrap=True)
    if nothing_new := done.outcome.state == "nothing_new":
        ui.note("--force trains all the same")
    ui.facts(
        [
            ("judged", f"{parameters.model_name} {judged}" if judged != done.outcome.version else ""),
            ("serves", done.outcome.version and f"{parameters.model_name} {done.outcome.version}"),
            ("store", store.uri),
            ("all runs", store.url(layout.FRONT_PAGE)),
            ("pictures", store.url(layout.run_key(done.run, layout.PICTURES))),
            ("report", "" if nothing_new else store.url(layout.run_key(done.run, layout.REPORT))),
            ("next", _next_command(done, parameters)),
        ]
    )


def _next_command(done: "LocalRun", parameters: "Parameters") -> str:
    if done.outcome.advice:
        return done.outcome.advice
    if not done.outcome.version or done.outcome.state == "refused":
        return "open the report, which shows what was judged wrong; more epochs or pictures may help"
    options = [] if parameters.store in ("./store", "store") else ["--store", parameters.store]
    options += [] if parameters.model_name == "defects" else ["--name", parameters.model_name]
    return f"{hints.program()} {shlex.join(['serve', *options])}"


def _show_metrics(metrics: dict[str, Any]) -> None:
    from defectline.cli import ui

    champion, spans = metrics["champion_test"] or {}, metrics["test_intervals_95"]
    rows = [
        (
            {"ng": "NG pictures", "ok": "OK pictures"}.get(name, name),
            value,
            f"{spans[name][0]:.3f} to {spans[name][1]:.3f}" if spans.get(name) else "",
            # Of pictures without masks there may be some in one set alone.
            metrics["validation"].get(name, ""),
            champion.get(name, ""),
        )
        for name, value in metrics["test"].items()
    ]
    columns = ("metric", "test", "95 % interval", "validation", "champion")
    ui.table(columns, rows, numbers=columns[1:])
