"""The train step as KFP sees it."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output


def train(
    epochs: int,
    batch_size: int,
    seed: int,
    encoder_weights: str,
    quantize: bool,
    datasets: Input[list[Dataset]],
    model: Output[Model],
    metrics: Output[Metrics],
    history: Output[HTML],
):
    """Trains the U-Net on all shards of a dataset and exports it in every format."""
    from pathlib import Path

    from defectline.components.train.training import train as run_step

    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "encoder_weights": encoder_weights,
        "quantize": quantize,
    }
    shards = [Path(dataset.path) for dataset in datasets]
    best = run_step(shards, Path(model.path), Path(history.path), settings)
    for name, value in best.items():
        metrics.log_metric(name, float(value))
