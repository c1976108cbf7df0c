"""`python -m defectline.components.ingest SOURCE STORE`"""

from typing import Annotated

import typer

from defectline.components.common.errors import exit_on_error
from defectline.components.common.installing import explained

with explained("ingest", "ingest"):
    from defectline.components.common.settings import list_settings, parse_pairs
    from defectline.components.ingest.settings import IngestSettings
    from defectline.components.ingest.step import ingest

HELP = f"A setting: {list_settings(IngestSettings)}"


def main(
    source: str,
    store: str,
    run: str = "manual",
    model_name: str = "defects",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
) -> None:
    """Take a snapshot of the labelled images in SOURCE, and say whether there is anything new to learn."""
    ingest(source, store, run, model_name, parse_pairs(set_ or [], IngestSettings.model_fields))


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
