"""`defectline doctor`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli.options import Json, Namespace, Store, token

if TYPE_CHECKING:
    from defectline.pipeline.doctor import Finding


def doctor(
    store: Store = "./store",
    source: Annotated[str, typer.Option(help="Also which layout these labelled images have.")] = "",
    host: Annotated[
        str, typer.Option(envvar="KFP_HOST", help="Also whether this Kubeflow Pipelines server answers.")
    ] = "",
    namespace: Namespace = "",
    package: Annotated[
        Path | None,
        typer.Option(help="Also whether the pods of this compiled pipeline find their secrets."),
    ] = None,
    json_: Json = False,
) -> None:
    """Check versions, settings, source, store, server and secrets; exit with 2 where one is wrong.

    A pipeline.yaml that is there is looked at without --package. KUBECONFIG says in which cluster.
    """
    from defectline.cli import ui
    from defectline.pipeline.doctor import examine

    found = []
    for finding in examine(source, store, host, namespace, token(), package):
        found.append(finding)
        if not json_:
            show_finding(finding)
    if json_:
        ui.print_json([finding._asdict() for finding in found])
    if any(finding.ok is False for finding in found):
        raise typer.Exit(2)


def show_finding(finding: "Finding") -> None:
    """A line for what is well, or was not looked at; what is wrong gets its fix below."""
    from defectline.cli import ui

    marks = {True: "[green]ok   [/]", False: "[red]wrong[/]", None: "[yellow]?    [/]"}
    mark = marks[finding.ok]
    ui.console.print(f"{mark} {finding.check:12} {ui.escape(finding.found)}", soft_wrap=True)
    if finding.fix:
        ui.console.print(f"{'fix:':>17}  {ui.escape(finding.fix)}", soft_wrap=True)
