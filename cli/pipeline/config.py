"""`defectline config`"""

import typer

from defectline.cli.options import Json


def config(json_: Json = False) -> None:
    """Print every setting with its default, as a file to start from for --config."""
    from defectline.cli import ui
    from defectline.pipeline.config import as_yaml, describe

    if json_:
        ui.print_json([setting._asdict() for setting in describe()])
    else:
        typer.echo(as_yaml(), nl=False)
