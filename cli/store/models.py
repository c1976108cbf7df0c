"""`defectline models`"""

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Configs, Json, Store

if TYPE_CHECKING:
    from defectline.pipeline.catalog.models import Model


def models(
    context: typer.Context,
    store: Store = "./store",
    name: Annotated[str, typer.Option(help="Only this model.", autocompletion=completion.models)] = "",
    config: Configs = None,
    namespace: Annotated[str, typer.Option(help="Also ask KServe in this namespace what serves there.")] = "",
    json_: Json = False,
) -> None:
    """List the versions of the models, with their test metrics and what became of them; with --config those
    of all products that it names."""
    from defectline.cli import ui
    from defectline.cli.products import keep_going, read_products
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.models import ask_cluster, read_models
    from defectline.pipeline.catalog.runs import read_runs

    def read(place: str, wanted: Container[str]) -> list["Model"]:
        opened = open_storage(place)
        found = read_models(opened, read_runs(opened, ui.warn), ui.warn)
        found = [one for one in found if not wanted or one.name in wanted]
        return ask_cluster(found, namespace) if namespace else found

    if config:
        found = []
        with keep_going() as told:
            stores: dict[str, dict[str, Path]] = {}
            for file, product in read_products(context, config, told).items():
                stores.setdefault(product.store, {})[product.name] = file
            for place, names in stores.items():
                with told(next(iter(names.values()))):
                    found += read(place, names.keys())
            _show(found, "no models of these products", json_)
    else:
        told_name = f" called {name}" if name else ""
        found = read(store, {name} if name else ())
        _show(found, f"no models{told_name} in {open_storage(store).uri}", json_)


def _show(found: list["Model"], none: str, json_: bool) -> None:
    from defectline.cli import ui

    if json_:
        return ui.print_json([one._asdict() for one in found])
    if not found:
        return typer.echo(none)
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
