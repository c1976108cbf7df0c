"""`python -m defectline.components.preprocess STORE SNAPSHOT DATASET`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.components.common.errors import exit_on_error
from defectline.components.common.installing import explained

with explained("preprocess", "preprocess"):
    from defectline.components.common.settings import list_settings, parse_pairs
    from defectline.components.preprocess.settings import PreprocessSettings
    from defectline.components.preprocess.step import preprocess

HELP = f"A setting: {list_settings(PreprocessSettings)}"


def main(
    store: str,
    snapshot: str,
    dataset: Path,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Prepare the arrays to train on from a snapshot, or one shard of them, in the folder DATASET."""
    settings = parse_pairs(set_ or [], PreprocessSettings.model_fields)
    preprocess(store, snapshot, dataset, settings, shard, shards)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
