"""`defectline submit`"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli.options import (
    Config,
    Experiment,
    FailOnGate,
    Force,
    Host,
    Name,
    Namespace,
    Package,
    Set,
    Source,
    Store,
    token,
)

if TYPE_CHECKING:
    from rich.table import Table

    from defectline.pipeline.kfp_server.following import Step, Watch
    from defectline.pipeline.kfp_server.runs import RunResult


def submit(
    context: typer.Context,
    host: Host,
    store: Store,
    source: Source = "",
    name: Name = "defects",
    config: Config = None,
    set_: Set = None,
    force: Force = False,
    package: Package = Path("pipeline.yaml"),
    experiment: Experiment = "defectline",
    namespace: Namespace = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 86_400.0,
    fail_on_gate: FailOnGate = False,
) -> None:
    """Start a run on a Kubeflow Pipelines server. KFP_TOKEN holds the bearer token, if one is needed.

    With --wait the exit status is 0 for a run that succeeded and 1 for one that failed or was cancelled;
    with --fail-on-gate it waits too, and reads from the store what the gate said. Several --config files, or
    a folder of them, start a run for each; they are then waited for one after another.
    """
    from datetime import UTC, datetime

    from defectline.cli import ui
    from defectline.cli.products import after_all, is_one_of_several
    from defectline.pipeline.kfp_server import runs
    from defectline.pipeline.kfp_server.following import look_at_pods
    from defectline.pipeline.kfp_server.reasons import STEPS_RUN_IN
    from defectline.pipeline.needs import check_name, read_needs
    from defectline.pipeline.parameters import check_reachable, parse

    parameters = parse(source, store, set_ or [], model_name=name, force=force)
    check_reachable(parameters)
    check_name(parameters.model_name, read_needs(package).kserve)
    wait = wait or fail_on_gate
    # Of several, the next one starts before the first has ended.
    at_once = wait and not is_one_of_several(context)
    with live_steps() as watch:
        done = runs.submit(
            package,
            host=host,
            name=f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            parameters=parameters.model_dump(),
            experiment=experiment,
            namespace=namespace,
            token=token(),
            wait=at_once,
            timeout_s=timeout,
            say=ui.say,
            watch=watch,
            look=look_at_pods(namespace or STEPS_RUN_IN) if at_once else None,
        )
    if not wait:
        return

    def end() -> None:
        ended = done
        if not at_once:
            with live_steps() as watch:
                ended = runs.follow(
                    done.run_id,
                    host=host,
                    namespace=namespace,
                    token=token(),
                    timeout_s=timeout,
                    say=ui.say,
                    watch=watch,
                    look=look_at_pods(namespace or STEPS_RUN_IN),
                )
        show_end(ended)
        if fail_on_gate:
            _end_by_gate(store, ended.run_id)

    after_all(context, end)


def show_end(done: "RunResult") -> None:
    """Say how a run ended and why; exit with 1 where it did not end well."""
    from defectline.cli import ui
    from defectline.pipeline.kfp_server.following import WORDS

    why = f": {done.reason}" if done.reason else ""
    ui.say(f"run {done.run_id} ended, {WORDS.get(done.state, done.state)}{why}")
    if done.state != "SUCCEEDED":
        if done.detail:
            ui.say(done.detail)
        ui.say(done.url)
        raise typer.Exit(1)


def _end_by_gate(store: str, run: str) -> None:
    from defectline.cli import ui
    from defectline.components.common.errors import StoreError
    from defectline.components.common.layout import OUTCOME, run_key
    from defectline.components.common.records import read_outcome
    from defectline.components.common.storage import open_storage

    opened = open_storage(store)
    outcome = read_outcome(opened, run)
    if outcome is None:
        raise StoreError(
            f"The run {run} left no outcome in the store.",
            got=f"nothing at {opened.url(run_key(run, OUTCOME))}",
            expected="what the gate said",
            fix="Name the store that the run wrote to, or leave out --fail-on-gate.",
        )
    ui.say(f"{outcome.state}: {outcome.reason}")
    if outcome.advice:
        ui.say(outcome.advice)
    if outcome.state == "refused":
        raise typer.Exit(3)


@contextmanager
def live_steps() -> Iterator["Watch | None"]:
    """What draws the steps of a run again at each look; None where there is no terminal."""
    from rich.live import Live

    from defectline.cli import ui

    if not ui.console.is_terminal:
        yield None
        return
    with Live(console=ui.console, auto_refresh=False) as live:
        yield lambda state, steps: live.update(_steps(state, steps), refresh=True)


def _steps(state: str, steps: Sequence["Step"]) -> "Table":
    from defectline.cli import ui
    from defectline.pipeline.kfp_server.following import WORDS

    rows = [
        (
            ui.coloured(step.name),
            "" if step.minutes is None else f"{step.minutes:,.1f}",
            ui.coloured(WORDS.get(step.state, step.state)),
            ui.coloured(step.note),
        )
        for step in steps
    ]
    columns = ("step", "minutes", "state", "")
    return ui.make_table(
        columns,
        [*rows, ("run", "", ui.coloured(WORDS.get(state, state)), "")],
        ("minutes",),
        ("step", "state"),
    )
