"""`defectline runs`"""

from typing import Annotated

import typer

from defectline.cli.options import Json, Namespace, Store, token


def runs(
    context: typer.Context,
    store: Store = "./store",
    host: Annotated[
        str,
        typer.Option(
            envvar="KFP_HOST",
            help="The runs of this Kubeflow Pipelines server, instead of a store's. A --store that is typed "
            "wins over the variable.",
        ),
    ] = "",
    namespace: Namespace = "",
    limit: Annotated[int, typer.Option(min=1, help="The last ones.")] = 20,
    json_: Json = False,
) -> None:
    """List the runs: when, how they ended and why. KFP_TOKEN holds the server's bearer token."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.runs import list_runs
    from defectline.pipeline.kfp_server.runs import list_cluster_runs

    typed = {name for name in ("store", "host") if _is_typed(context, name)}
    if typed == {"store"}:
        host = ""
    if host:
        rows = list_cluster_runs(host, namespace, token(), limit)
    else:
        rows = list_runs(open_storage(store), limit, ui.warn)
    if json_:
        return ui.print_json([row._asdict() for row in rows])
    if not rows:
        return typer.echo(f"no runs in {host or open_storage(store).uri}")
    ui.table(
        ("run", "began (UTC)", "minutes", "state", "version", "reason"),
        [
            (
                row.run if row.name == row.run else f"{row.name} {row.run}",
                ui.day(row.began),
                "" if row.minutes is None else f"{row.minutes:,.1f}",
                row.state,
                row.version,
                row.reason,
            )
            for row in rows
        ],
        numbers=("minutes",),
        whole=("run", "state"),
        below=("version", "reason"),
    )


def _is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option is on the command line, and not from the environment or the default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
