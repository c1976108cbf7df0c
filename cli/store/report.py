"""`defectline report`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Store


def report(
    run: Annotated[
        str,
        typer.Argument(
            help="The run; an ID prefix is accepted. Default: the latest with a report.",
            autocompletion=completion.runs,
        ),
    ] = "",
    store: Store = "./store",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to put a copy.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Print where the report of a run is; one of a remote store is fetched first."""
    import webbrowser

    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.runs import fetch_report

    path = fetch_report(open_storage(store), run, output, ui.warn)
    typer.echo(path)
    if open_ and not webbrowser.open(path.as_uri()):
        ui.warn("There is no browser on this machine: open the file elsewhere.")
        raise typer.Exit(2)
