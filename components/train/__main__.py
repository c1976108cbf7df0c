"""`python -m defectline.components.train DATASET... MODEL`"""

from pathlib import Path

import typer


def main(
    dataset: list[Path],
    model: Path,
    epochs: int = 60,
    batch_size: int = 4,
    seed: int = 0,
    encoder_weights: str = "none",
    quantize: bool = True,
    init_from: str = "none",
    training: str = "",
    store: str = "",
    logs: Path | None = None,
) -> None:
    """Train on all shards of the prepared DATASET; write the exported network into the folder MODEL.

    With --store, checkpoints are kept there, and training goes on from one that was cut off. With --logs,
    event files for TensorBoard are written there.
    """
    # TensorFlow takes seconds to import, which --help need not wait for.
    from defectline.components.train.step import train

    fields = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "encoder_weights": encoder_weights,
        "quantize": quantize,
        "init_from": init_from,
    }
    page = model.with_name(f"{model.name}.html")
    train(dataset, model, page, fields, training=training, store=store, logs=logs)


if __name__ == "__main__":
    typer.run(main)
