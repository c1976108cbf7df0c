"""`defectline status`"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectline.cli.options import Configs, Json, Name, ServedIn, Store

if TYPE_CHECKING:
    from defectline.components.deploy.status import Status


def status(
    context: typer.Context,
    store: Store = "./store",
    name: Name = "defects",
    config: Configs = None,
    namespace: ServedIn = "",
    json_: Json = False,
) -> None:
    """What serves, and what is under way; with --config of all products that it names, in one table."""
    from defectline.components.deploy.deployer import open_deployer

    if config:
        _of_all(context, config, namespace, json_)
        return
    found = open_deployer(store, name, {"namespace": namespace}).status()
    typer.echo(found.model_dump_json(indent=2) if json_ else "\n".join(lines(found)))


def _of_all(context: typer.Context, files: list[Path], namespace: str, json_: bool) -> None:
    from defectline.cli import ui
    from defectline.cli.products import keep_going, read_products
    from defectline.components.deploy.deployer import open_deployer

    found = []
    with keep_going() as told:
        for file, product in read_products(context, files, told).items():
            with told(file):
                of = open_deployer(product.store, product.name, {"namespace": namespace}).status()
                found.append((product.store, of))
        if json_:
            ui.print_json([{"store": where, **of.model_dump(mode="json")} for where, of in found])
        elif found:
            _show(found)


def _show(found: list[tuple[str, "Status"]]) -> None:
    from defectline.cli import ui

    several = len({where for where, _ in found}) > 1
    rows = [
        (
            of.name,
            *([where] if several else []),
            of.version or "none serves",
            of.previous or ui.NOTHING,
            ui.NOTHING if of.wanted_pods is None else f"{of.ready_pods} of {of.wanted_pods}",
            f"{of.last_outcome.state}, {of.last_outcome.reason}" if of.last_outcome else ui.NOTHING,
            "; ".join(of.under_way),
        )
        for where, of in found
    ]
    columns = ("model", *(["store"] if several else []), "version", "before", "pods", "last run", "under way")
    ui.table(columns, rows, whole=("model", "version", "before"))


def lines(status: "Status") -> list[str]:
    """The status for people, one fact a line."""
    where = f"namespace {status.namespace}" if status.namespace else "this machine"
    rows = [("model", f"{status.name} on {where}"), ("version", status.version or "none serves")]
    if status.namespace and status.version:
        rows.append(("pods", f"{status.ready_pods} ready of {status.wanted_pods}"))
        rows.append(("url", status.url or "none yet"))
    rows.append(("before", status.previous or "none to go back to"))
    rows += [("under way", text) for text in status.under_way]
    if status.last_outcome:
        outcome = status.last_outcome
        rows.append(("last run", f"{status.last_run}: {outcome.state}, {outcome.reason}"))
    return [f"{title:10} {text}" for title, text in rows]
