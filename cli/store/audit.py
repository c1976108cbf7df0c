"""`defectline audit`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.cli.options import Json, Store


def audit(
    store: Store = "./store",
    name: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    act: Annotated[
        str,
        typer.Option(help="One of gate, approve, reject, deploy, rollback, export, prune and decide alone."),
    ] = "",
    csv: Annotated[Path | None, typer.Option(help="Write a row a line to this file.")] = None,
    json_: Json = False,
) -> None:
    """List who changed what serves or what is learned; exit with 2 where a line was changed or taken out."""
    from csv import writer

    from defectline.cli import ui
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import explained, replaced
    from defectline.components.common.reporting.audit import ACTS
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.audit import DECIDE, Row, read_all

    if act and act not in (*ACTS, DECIDE):
        raise SettingsError(
            f"There is no act {act}.",
            got=f"--act {act}",
            expected=f"one of {', '.join((*ACTS, DECIDE))}",
            fix="Correct it, or leave it out.",
        )
    all_rows, wrong = read_all(open_storage(store))
    rows = [row for row in all_rows if name in ("", row.model) and act in ("", row.act)]
    if csv:
        with (
            explained(f"{csv} cannot be written.", expected="a file in a folder", fix="Name another one."),
            replaced(csv) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer(file, lineterminator="\n").writerows([Row._fields, *rows])
    if json_:
        ui.print_json({"lines": [row._asdict() for row in rows], "wrong": wrong})
    elif rows:
        ui.table(
            ("when (UTC)", "who", "did", "model", "what", "result"),
            [(row.at[:19], row.by, row.act, row.model, row.subject, row.result) for row in rows],
            whole=("when (UTC)", "what"),
        )
    elif all_rows:
        models = ", ".join(sorted({row.model for row in all_rows} - {""}))
        ui.console.print(f"no line fits; there are {len(all_rows)}, of {models or 'no model'}")
    else:
        ui.console.print("nothing is noted yet")
    for one in wrong:
        ui.warn(f"the log is broken: {one}", bad=True)
    if wrong:
        raise typer.Exit(2)
