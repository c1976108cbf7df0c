"""`python -m defectline.components.evaluate STORE SNAPSHOT MODEL BUNDLE REPORT`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.components.common.errors import exit_on_error
from defectline.components.common.installing import explained

with explained("evaluate", "evaluate"):
    from defectline.components.common.settings import list_settings, parse_pairs
    from defectline.components.evaluate.settings import EvaluateSettings
    from defectline.components.evaluate.step import evaluate

HELP = f"A setting: {list_settings(EvaluateSettings)}"


def main(
    store: str,
    snapshot: str,
    model: Path,
    bundle: Path,
    report: Path,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    run: str = "manual",
    model_name: str = "defects",
    champion: str = "",
) -> None:
    """Judge MODEL on a snapshot's test images, seal it into the folder BUNDLE, and write REPORT (HTML)."""
    settings = parse_pairs(set_ or [], EvaluateSettings.model_fields)
    evaluate(store, snapshot, model, bundle, report, settings, run, model_name, champion)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
