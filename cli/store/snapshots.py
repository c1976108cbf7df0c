"""`defectline snapshots`"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Json, Store

if TYPE_CHECKING:
    from defectline.pipeline.catalog.snapshots import Change, SnapshotRow

KINDS = ("added", "removed", "content", "name", "label", "split", "status")
"""In what two snapshots may differ."""


def snapshots(
    store: Store = "./store",
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="What B has other than A. ID prefixes are accepted.",
            autocompletion=completion.snapshots,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """List the snapshots of a store, or compare two of them."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.snapshots import compare, summarize

    if diff:
        before, after, changes = compare(open_storage(store), *diff)
        if json_:
            changed = [change._asdict() for change in changes]
            ui.print_json({"before": before, "after": after, "changes": changed})
        else:
            show_difference(before, after, changes)
    else:
        rows = summarize(open_storage(store), ui.warn)
        if json_:
            ui.print_json(
                [
                    {**row.snapshot.model_dump(), "new": row.new, "models": row.models, "newest": row.head}
                    for row in rows
                ]
            )
        else:
            show_snapshots(rows)


def show_snapshots(rows: Sequence["SnapshotRow"]) -> None:
    """One line a snapshot, the oldest first."""
    from defectline.cli import ui

    ui.table(
        ("", "snapshot", "date", "pairs", "new", "rejected", "models", "source"),
        [
            (
                "→" if row.head else "",
                row.snapshot.id,
                f"{datetime.fromisoformat(row.snapshot.created):%Y-%m-%d %H:%M:%S}",
                row.snapshot.accepted,
                row.new,
                row.snapshot.rejected,
                ", ".join(row.models),
                ", ".join(row.snapshot.sources),
            )
            for row in rows
        ],
        numbers=("pairs", "new", "rejected"),
        whole=("snapshot", "date"),
        below=("models", "source"),
    )
    ui.note("→ is the newest; dates are UTC; new: pairs that the one before has not")


def show_difference(before: str, after: str, changes: Sequence["Change"]) -> None:
    """How many pairs differ in what, then each of them."""
    from defectline.cli import ui

    ui.console.print(f"from [bold]{before}[/] to [bold]{after}[/]")
    counts = Counter(kind for change in changes for kind in change.kinds)
    for kind in KINDS:
        ui.console.print(f"{counts[kind]:>8,}  {kind}")
    if changes:
        ui.console.print()
        ui.table(("pair", "change", "what"), [(one.id, ", ".join(one.kinds), one.what) for one in changes])
