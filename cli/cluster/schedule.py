"""`defectline schedule apply`, `list`, `pause`, `resume`, `request` and `delete`"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli import hints
from defectline.cli.options import (
    Config,
    Experiment,
    Host,
    Json,
    Name,
    Namespace,
    Package,
    Set,
    Source,
    Store,
    token,
)
from defectline.cli.products import EachProduct, is_one_of_several

if TYPE_CHECKING:
    from defectline.pipeline.kfp_server.schedules import Schedule

app = typer.Typer(no_args_is_help=True, help="Recurring runs on a Kubeflow Pipelines server.")
Zone = Annotated[
    str, typer.Option("--time-zone", help="That of KFP's controller (CRON_SCHEDULE_TIMEZONE there).")
]


@app.command("apply", cls=EachProduct)
def apply(
    context: typer.Context,
    host: Host,
    store: Store,
    cron: Annotated[str, typer.Option(help="Five fields, in the time zone of KFP's controller.")],
    source: Source = "",
    name: Name = "defects",
    config: Config = None,
    set_: Set = None,
    package: Package = Path("pipeline.yaml"),
    latest: Annotated[
        bool, typer.Option("--latest", help="Run the newest version of the pipeline at each time.")
    ] = False,
    time_zone: Zone = "UTC",
    spread: Annotated[
        int,
        typer.Option(
            min=0, max=1440, help="Minutes over which several products start, each at a time by its name."
        ),
    ] = 180,
    experiment: Experiment = "defectline",
    namespace: Namespace = "",
    json_: Json = False,
) -> None:
    """Make or change the recurring run of a model: no catch-up, one at a time.

    Several --config files, or a folder of them, are a schedule each, spread over --spread minutes from the
    time that --cron says.
    """
    from defectline.cli import ui
    from defectline.pipeline.kfp_server import schedules
    from defectline.pipeline.kfp_server.cron import normalise_cron
    from defectline.pipeline.kfp_server.spreading import spread_cron
    from defectline.pipeline.needs import check_name, read_needs
    from defectline.pipeline.parameters import check_reachable, parse

    zone = schedules.read_zone(time_zone)
    parameters = parse(source, store, set_ or [], model_name=name)
    check_reachable(parameters)
    check_name(parameters.model_name, read_needs(package).kserve)
    if is_one_of_several(context) and spread:
        cron, told = spread_cron(normalise_cron(cron), name, spread)
        ui.warn(told)
    made = schedules.apply_schedule(
        package,
        host=host,
        name=name,
        cron=cron,
        parameters=parameters.model_dump(),
        latest=latest,
        zone=zone,
        experiment=experiment,
        namespace=namespace,
        token=token(),
        say=ui.warn,
    )
    _show([made], time_zone, json_)


@app.command("list")
def list_(host: Host, time_zone: Zone = "UTC", namespace: Namespace = "", json_: Json = False) -> None:
    """List the recurring runs, each with its next three times."""
    from defectline.pipeline.kfp_server import schedules

    zone = schedules.read_zone(time_zone)
    found = schedules.list_schedules(host=host, namespace=namespace, token=token(), zone=zone)
    _show(found, time_zone, json_)


@app.command("pause")
def pause(host: Host, name: Name = "defects", namespace: Namespace = "") -> None:
    """Start no more runs until it is resumed; one that is under way goes on."""
    from defectline.pipeline.kfp_server import schedules

    schedules.switch_schedule(host=host, name=name, enabled=False, namespace=namespace, token=token())
    typer.echo(f"schedule {name} paused; `{hints.program()} schedule resume` goes on with it")


@app.command("resume")
def resume(
    host: Host,
    name: Name = "defects",
    time_zone: Zone = "UTC",
    namespace: Namespace = "",
    json_: Json = False,
) -> None:
    """Go on with a paused one; times that passed meanwhile are left out."""
    from defectline.pipeline.kfp_server import schedules

    zone = schedules.read_zone(time_zone)
    found = schedules.switch_schedule(
        host=host, name=name, enabled=True, namespace=namespace, token=token(), zone=zone
    )
    _show(found, time_zone, json_)


@app.command("request")
def request(host: Host, name: Name = "defects", namespace: Namespace = "") -> None:
    """Print the JSON that starts a run of this schedule at once when it is posted to the server's runs."""
    from defectline.cli import ui
    from defectline.pipeline.kfp_server import schedules

    ui.print_json(schedules.run_request(host=host, name=name, namespace=namespace, token=token()))


@app.command("delete")
def delete(
    host: Host,
    name: Name = "defects",
    namespace: Namespace = "",
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a run of it that is under way.")
    ] = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Also where that kills a run under way; says which.")
    ] = False,
) -> None:
    """Delete a model's recurring run, which starts no more runs from then on."""
    from defectline.cli import ui
    from defectline.pipeline.kfp_server import schedules

    schedules.delete_schedule(
        host=host, name=name, force=force, wait_s=timeout, namespace=namespace, token=token(), say=ui.warn
    )
    typer.echo(f"schedule {name} deleted")


def _show(found: list["Schedule"], time_zone: str, as_json: bool) -> None:
    from defectline.cli import ui

    if as_json:
        facts = [asdict(one) | {"next_times": [time.isoformat() for time in one.next_times]} for one in found]
        ui.print_json(facts)
    else:
        show_schedules(found, time_zone)


def show_schedules(schedules: Sequence["Schedule"], time_zone: str) -> None:
    """One line a recurring run, with its next three times."""
    from defectline.cli import ui

    for made in schedules:
        runs = "the latest version" if made.follows_latest else "one version"
        state = "" if made.enabled else "  [yellow]paused[/]"
        if made.leftover:
            state = "  [yellow]replaced; stays until its last run has ended[/]"
        ui.console.print(f"[bold]{ui.coloured(made.name)}[/]  {ui.escape(made.cron)}  [dim]{runs}[/]{state}")
        for time in made.next_times:
            text = f"{time:%a %Y-%m-%d %H:%M:%S} {time_zone}"
            if time_zone != "UTC":
                text += f", {time.astimezone(UTC):%H:%M:%S} UTC"
            ui.console.print(f"  {text}")
        if made.enabled and not made.next_times:
            ui.console.print("  made by hand: its next times are not known here")
    if not schedules:
        ui.console.print("no schedules")
    elif any(one.next_times for one in schedules):
        ui.note("as long as KFP's controller keeps that time zone")
