"""`defectline qualify`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.cli.options import Json, Name, Store, Trust


def qualify(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY.csv", help="Columns image, part, truth, and one for each person.")
    ],
    url: Annotated[str, typer.Option(help="Where the endpoint answers.")] = "http://localhost:8080",
    store: Store = "./store",
    name: Name = "defects",
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for qualification.html and qualification.pdf.")
    ] = Path("qualification"),
    claim: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="The share of defective parts that may escape at most.")
    ] = 0.05,
    varied: Annotated[
        int, typer.Option(min=0, help="So many pictures are also asked shifted and lit otherwise.")
    ] = 50,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Send the first token of this file.", envvar="DEFECTLINE_TOKEN_FILE"),
    ] = None,
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Qualify an endpoint by pictures of known parts: what is installed, whether it works, how far it agrees.

    Exit status 0: qualified. 3: not qualified; the report says why.
    """
    from defectline.cli import ui
    from defectline.client import Client
    from defectline.components.common.files import explained, replaced
    from defectline.components.common.storage import open_storage
    from defectline.components.common.trust.keys import read_trust
    from defectline.pipeline.qualification.qualify import qualify as run
    from defectline.pipeline.qualification.report import sections, summary, to_html, to_pdf
    from defectline.pipeline.qualification.study import read_study

    pictures = read_study(study)
    trusted = read_trust(trust or ())
    with explained(f"{output} cannot be written.", expected="a folder", fix="Name another one."):
        output.mkdir(parents=True, exist_ok=True)
    with (
        Client(url, name, timeout_s=60, deadline_s=120, token_file=token_file) as client,
        ui.progress("qualifying", 2 * len(pictures) + min(varied, len(pictures))) as advance,
    ):
        client.check_reachable()
        found = run(client, open_storage(store), pictures, trusted, claim, varied, advance)
    with explained(f"{output} cannot be written.", expected="a folder", fix="Name another one."):
        with replaced(output / "qualification.html") as partial:
            partial.write_text(to_html(found), encoding="utf-8")
        with replaced(output / "qualification.pdf") as partial:
            to_pdf(found, partial)
    if json_:
        content = [section._asdict() for section in sections(found)]
        said = {"qualified": found.passed, "summary": summary(found), "warnings": found.warnings}
        ui.print_json({**said, "sections": content})
    else:
        for section in sections(found)[:3]:
            ui.table(section.columns, section.rows)
            ui.console.print()
        ui.console.print(summary(found), soft_wrap=True)
        ui.facts([("report", output / "qualification.html"), ("on paper", output / "qualification.pdf")])
        for warning in found.warnings:
            ui.warn(f"WARNING: {warning}")
    if not found.passed:
        raise typer.Exit(3)
