"""`defectline models`"""

from typing import Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Json, Store


def models(
    store: Store = "./store",
    name: Annotated[str, typer.Option(help="Only this model.", autocompletion=completion.models)] = "",
    namespace: Annotated[str, typer.Option(help="Also ask KServe in this namespace what serves there.")] = "",
    json_: Json = False,
) -> None:
    """List the versions of the models, with their test metrics and what became of them."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.models import ask_cluster, read_models
    from defectline.pipeline.catalog.runs import read_runs

    opened = open_storage(store)
    found = read_models(opened, read_runs(opened, ui.warn), ui.warn)
    found = [one for one in found if name in ("", one.name)]
    if namespace:
        found = ask_cluster(found, namespace)
    if json_:
        return ui.print_json([one._asdict() for one in found])
    if not found:
        return typer.echo(f"no models{f' called {name}' if name else ''} in {opened.uri}")
    ui.table(
        ("model", "version", "state", "learned from", "IoU", "escape", "overkill", "snapshot"),
        [
            (
                one.name or ui.NOTHING,
                "\n".join([one.version, *(f"serves on {place}" for place in one.served_by)]),
                one.state,
                one.learned_from or ui.NOTHING,
                *(one.metrics.get(key) for key in ("iou", "escape", "overkill")),
                one.snapshot[:6],
            )
            for one in found
        ],
        numbers=("IoU", "escape", "overkill"),
        whole=("model", "version", "state"),
    )
