"""`defectline prune`"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli.options import Json, Store, token

if TYPE_CHECKING:
    from defectline.pipeline.catalog.prune import Item, Plan


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
    host: Annotated[
        str,
        typer.Option(
            envvar="KFP_HOST", help="Ask this Kubeflow Pipelines server which unfinished runs were lost."
        ),
    ] = "",
    kfp_namespace: Annotated[
        str, typer.Option(envvar="KFP_NAMESPACE", help="Profile namespace there, on multi-user Kubeflow.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise it is only listed.")] = False,
    json_: Json = False,
) -> None:
    """List what of a store nothing needs any more, and with --yes remove it."""
    from datetime import UTC, datetime, timedelta

    from defectline.cli import ui
    from defectline.components.common.reporting.audit import note, user
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.models import read_models, versions_in_use
    from defectline.pipeline.catalog.prune import make_plan, prune, read_state

    opened, old = open_storage(store), timedelta(days=age)
    in_use = None
    if namespace:
        in_use = versions_in_use(read_models(opened, [], ui.warn), namespace)
    state, before = read_state(opened, in_use, ui.warn), datetime.now(UTC) - old
    plan, ended = make_plan(state, keep, before), set[str]()
    if host and plan.under_way:
        from defectline.pipeline.kfp_server.runs import find_ended

        ended = find_ended(plan.under_way, host=host, namespace=kfp_namespace, token=token(), say=ui.warn)
        plan = make_plan(state, keep, before, ended)
    items = prune(opened, keep, old, in_use, ui.warn, ended) if yes else plan.items
    for one in items if yes else ():
        if one.kind in ("model", "snapshot"):
            model, _, version = one.name.rpartition(" ")
            note(opened, "prune", model, version if model else f"{one.kind} {version}", user(), one.reason)
    if json_:
        ui.print_json(
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
        show_pruning(plan, items, yes)


def show_pruning(plan: "Plan", items: Sequence["Item"], removed: bool) -> None:
    """What stays and why, then what goes or is gone."""
    from defectline.cli import ui

    if plan.kept:
        ui.table(("kept", "because"), list(plan.kept.items()), whole=("kept",))
        ui.console.print()
    if items:
        rows = [(one.kind, one.name, _size(one.size), one.reason) for one in items]
        ui.table(("removed" if removed else "to remove", "", "size", "because"), rows, numbers=("size",))
        ui.console.print()
    what = f"{len(items)} things, {_size(sum(one.size for one in items))}"
    if removed:
        ui.console.print(f"removed: {what}")
    elif plan.under_way:
        ui.console.print(
            f"a run is under way: {ui.escape(', '.join(plan.under_way[:3]))}; nothing can be removed\n"
            "if it was killed: --host URL asks the server that it ran on; --age DAYS says after how long a "
            "run without an end is taken for that"
        )
    else:
        ui.console.print(f"{what}; nothing was removed, --yes does it" if items else "nothing to remove")


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"
