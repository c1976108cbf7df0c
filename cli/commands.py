"""The commands of everyday operation: what a store holds, and keeping it in order.

Heavy packages are imported by the commands that need them.
"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.cli.options import Json, Namespace, Store, token


def models(
    store: Store = "./store",
    name: Annotated[str, typer.Option(help="Only this model.")] = "",
    namespace: Annotated[str, typer.Option(help="Also ask KServe in this namespace what serves there.")] = "",
    json_: Json = False,
) -> None:
    """List the versions of the models, with their test metrics and what became of them."""
    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.inventory import read_models, read_runs
    from defectline.pipeline.catalog.serving import ask_cluster

    opened = open_storage(store)
    found = read_models(opened, read_runs(opened, tables.complain), tables.complain)
    found = [one for one in found if name in ("", one.name)]
    if namespace:
        found = ask_cluster(found, namespace)
    if json_:
        return tables.print_json([one._asdict() for one in found])
    if not found:
        return typer.echo(f"no models{f' called {name}' if name else ''} in {opened.uri}")
    tables.show_table(
        ("model", "version", "state", "IoU", "escape", "overkill", "snapshot"),
        [
            (
                one.name or tables.NOTHING,
                "\n".join([one.version, *(f"serves on {place}" for place in one.served_by)]),
                one.state,
                *(one.metrics.get(key) for key in ("iou", "escape", "overkill")),
                one.snapshot[:6],
            )
            for one in found
        ],
        numbers=("IoU", "escape", "overkill"),
        whole=("model", "version", "state"),
    )


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            metavar="VERSION|IMAGE",
            help="A model's version; or a picture: the pair's id, its key in the source, a file, or its "
            "SHA-256. Starts of versions and checksums do.",
        ),
    ],
    store: Store = "./store",
    images: Annotated[bool, typer.Option("--images", help="Of a version: list its pictures.")] = False,
    json_: Json = False,
) -> None:
    """Show what a model was made of, or what a picture went into."""
    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.lineage import (
        is_version,
        origin_as_json,
        trace_model,
        trace_picture,
    )

    opened = open_storage(store)
    if is_version(what):
        origin = trace_model(opened, what, tables.complain)
        if json_:
            tables.print_json(origin_as_json(origin, images))
        else:
            tables.show_origin(origin, images)
    else:
        traces = trace_picture(opened, what, tables.complain)
        if json_:
            tables.print_json(
                {name: [one._asdict() for one in found] for name, found in traces._asdict().items()}
            )
        else:
            tables.show_traces(traces)


def prune(
    store: Store = "./store",
    keep: Annotated[int, typer.Option(min=1, help="The last versions of each model that stay.")] = 3,
    age: Annotated[
        float, typer.Option(min=0, help="Days after which unfinished work counts as given up.")
    ] = 7,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Where KServe serves models of this store, to ask which; repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise it is only listed.")] = False,
    json_: Json = False,
) -> None:
    """List what of a store nothing needs any more, and with --yes remove it."""
    from datetime import UTC, datetime, timedelta

    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.inventory import read_models
    from defectline.pipeline.catalog.prune import make_plan, prune, read_stock
    from defectline.pipeline.catalog.serving import versions_in_use

    opened, old = open_storage(store), timedelta(days=age)
    in_use = None
    if namespace:
        in_use = versions_in_use(read_models(opened, [], tables.complain), namespace)
    plan = make_plan(read_stock(opened, in_use, tables.complain), keep, datetime.now(UTC) - old)
    items = prune(opened, keep, old, in_use, tables.complain) if yes else plan.items
    if json_:
        tables.print_json(
            {
                "removed": yes,
                "bytes": sum(item.size for item in items),
                "items": [
                    {"kind": one.kind, "name": one.name, "reason": one.reason, "bytes": one.size}
                    for one in items
                ],
                "kept": plan.kept,
                "under_way": plan.under_way,
            }
        )
    else:
        tables.show_pruning(plan, items, yes)


def runs(
    store: Store = "./store",
    host: Annotated[
        str, typer.Option(help="Instead of a store's, the runs of this Kubeflow Pipelines server.")
    ] = "",
    namespace: Namespace = "",
    limit: Annotated[int, typer.Option(min=1, help="The last ones.")] = 20,
    json_: Json = False,
) -> None:
    """List the runs: when, how they ended and why. KFP_TOKEN holds the server's bearer token."""
    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.runs import list_cluster_runs, list_runs

    if host:
        rows = list_cluster_runs(host, namespace, token(), limit)
    else:
        rows = list_runs(open_storage(store), limit, tables.complain)
    if json_:
        return tables.print_json([row._asdict() for row in rows])
    if not rows:
        return typer.echo(f"no runs in {host or open_storage(store).uri}")
    tables.show_table(
        ("run", "began (UTC)", "minutes", "state", "version", "reason"),
        [
            (
                row.run if row.name == row.run else f"{row.name} {row.run}",
                tables.day(row.began),
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


def metrics(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="RUN…", help="Starts of names do; default the last five.")
    ] = None,
    store: Store = "./store",
    plot: Annotated[Path | None, typer.Option(help="Draw bars with intervals to this PNG.")] = None,
    json_: Json = False,
) -> None:
    """Compare the test metrics of runs, and what the gate said."""
    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog import runs as running

    found = running.find_judged(open_storage(store), run or [], tables.complain)
    if plot:
        running.plot(found, plot)
    if json_:
        return tables.print_json(running.compare(found))
    tables.show_metrics(found)
    if plot:
        tables.complain(f"drawn in {plot}")


def report(
    run: Annotated[str, typer.Argument(help="The run; a start of its name does.")],
    store: Store = "./store",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to put a copy.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Print where the report of a run lies; one of a remote store is fetched first."""
    import webbrowser

    from defectline.cli.tables import complain
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.runs import fetch_report

    path = fetch_report(open_storage(store), run, output, complain)
    typer.echo(path)
    if open_ and not webbrowser.open(path.as_uri()):
        complain("There is no browser on this machine: open the file elsewhere.")
        raise typer.Exit(2)


def doctor(
    store: Store = "./store",
    source: Annotated[str, typer.Option(help="Also whether these labelled images can be read.")] = "",
    host: Annotated[
        str, typer.Option(envvar="KFP_HOST", help="Also whether this Kubeflow Pipelines server answers.")
    ] = "",
    namespace: Namespace = "",
    json_: Json = False,
) -> None:
    """Check versions, settings, source, store and server; exit status 2 where something is wrong."""
    from defectline.cli import tables
    from defectline.pipeline.doctor import examine

    found = []
    for finding in examine(source, store, host, namespace, token()):
        found.append(finding)
        if not json_:
            tables.show_finding(finding)
    if json_:
        tables.print_json([finding._asdict() for finding in found])
    if not all(finding.ok for finding in found):
        raise typer.Exit(2)


ALL = (models, lineage, prune, runs, metrics, report, doctor)
