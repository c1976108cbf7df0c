"""`defectline runs`"""

from typing import Annotated

import typer

from defectline.cli.options import Json, Namespace, Store, token

STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELING": "stopping",
    "CANCELED": "stopped",
    "SKIPPED": "skipped",
    "PAUSED": "paused",
    "LOST": "lost",
}
"""A server's states as people read them; --json has them as they are."""


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
    follow: Annotated[
        str,
        typer.Option(
            metavar="RUN",
            help="Follow this run of the server to its end: its id, the start of it, or its name.",
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(help="With --follow: seconds to wait.")] = 86_400.0,
    limit: Annotated[int, typer.Option(min=1, help="The last ones.")] = 20,
    json_: Json = False,
) -> None:
    """List the runs: when, how they ended and why; or follow one. KFP_TOKEN holds a server's token."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.runs import list_runs
    from defectline.pipeline.kfp_server.runs import list_cluster_runs

    typed = {name for name in ("store", "host") if _is_typed(context, name)}
    if typed == {"store"}:
        host = ""
    if follow:
        return _follow(follow, host, namespace, timeout)
    if host:
        rows = list_cluster_runs(host, namespace, token(), limit)
    else:
        rows = list_runs(open_storage(store), limit, ui.warn)
    if json_:
        return ui.print_json([row._asdict() for row in rows])
    if not rows:
        return typer.echo(f"no runs in {host or open_storage(store).uri}")
    columns = {
        "run": [row.run for row in rows],
        "began (UTC)": [ui.day(row.began) for row in rows],
        "minutes": ["" if row.minutes is None else f"{row.minutes:,.1f}" for row in rows],
        "state": [STATES.get(row.state, row.state) for row in rows],
        "name": ["" if row.name == row.run else row.name for row in rows],
        "version": [row.version for row in rows],
        "reason": [row.reason for row in rows],
    }
    if not any(columns["name"]):
        # Runs of this machine have none.
        del columns["name"]
    ui.table(
        tuple(columns),
        list(zip(*columns.values(), strict=True)),
        numbers=("minutes",),
        whole=("run", "state"),
        below=("name", "version", "reason"),
    )


def _is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option is on the command line, and not from the environment or the default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _follow(run: str, host: str, namespace: str, timeout: float) -> None:
    from defectline.cli import ui
    from defectline.cli.cluster.submit import live_steps, show_end
    from defectline.components.common.errors import SettingsError
    from defectline.pipeline.kfp_server.following import look_at_pods
    from defectline.pipeline.kfp_server.reasons import STEPS_RUN_IN
    from defectline.pipeline.kfp_server.runs import follow

    if not host:
        raise SettingsError(
            "There is no server to follow a run on.",
            got=f"--follow {run}",
            expected="--host, or KFP_HOST",
            fix="Name the server with --host.",
        )
    with live_steps() as watch:
        done = follow(
            run,
            host=host,
            namespace=namespace,
            token=token(),
            timeout_s=timeout,
            say=ui.say,
            watch=watch,
            look=look_at_pods(namespace or STEPS_RUN_IN),
        )
    show_end(done)
