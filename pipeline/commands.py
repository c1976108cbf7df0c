"""The commands of everyday operation: what a store holds, and keeping it in order.

Heavy packages are imported by the commands that need them.
"""

from typing import Annotated

import typer

Store = Annotated[str, typer.Option(help="Where snapshots, models and runs are kept.")]
Json = Annotated[bool, typer.Option("--json", help="For other programs.")]


def models(
    store: Store = "./store",
    name: Annotated[str, typer.Option(help="Only this model.")] = "",
    namespace: Annotated[
        str, typer.Option(help="Also ask KServe in this namespace what serves there.")
    ] = "",
    json_: Json = False,
) -> None:
    """List the versions of the models, with their test metrics and what became of them."""
    from defectline.components.common.storage import open_storage
    from defectline.pipeline import tables
    from defectline.pipeline.inventory import read_models, read_runs
    from defectline.pipeline.serving import ask_cluster

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
        ("model", "version", "state", "IoU", "escape", "overkill", "snapshot", "serves on"),
        [
            (
                one.name or tables.NOTHING,
                one.version,
                one.state,
                *(one.metrics.get(key) for key in ("iou", "escape", "overkill")),
                one.snapshot[:6],
                ", ".join(one.served_by),
            )
            for one in found
        ],
        numbers=("IoU", "escape", "overkill"),
        whole=("version", "state"),
    )
