"""`python -m defectline.components.train DATASET... MODEL`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.components.common.errors import exit_on_error
from defectline.components.common.installing import explained

with explained("train", "train"):
    from defectline.components.common.settings import list_settings, parse_pairs
    from defectline.components.train.backend.distributed import joined
    from defectline.components.train.settings import TrainParameters

HELP = f"A setting: {list_settings(TrainParameters)}"


def main(
    dataset: list[Path],
    model: Path,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    store: str = "",
    logs: Path | None = None,
) -> None:
    """Train on all shards of the prepared DATASET; write the exported network into the folder MODEL.

    With --store, checkpoints are kept there, and training goes on from one that was cut off. With --logs,
    event files for TensorBoard are written there. Several processes train together where each is told so by
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; the first of them writes.
    """
    settings = parse_pairs(set_ or [], TrainParameters.model_fields)
    # TensorFlow takes seconds to import, which --help need not wait for.
    with joined():
        with explained("train", "train"):
            from defectline.components.train.step import train

        train(dataset, model, model.with_name(f"{model.name}.html"), settings, store=store, logs=logs)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
