"""The train step as KFP sees it."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


def train(
    store: str,
    epochs: int,
    batch_size: int,
    seed: int,
    encoder_weights: str,
    quantize: bool,
    init_from: str,
    pretraining: str,
    training: str,
    datasets: Input[list[Dataset]],
    model: Output[Model],
    metrics: Output[Metrics],
    history: Output[HTML],
    logs: Output[Artifact],
):
    """Trains the U-Net on all shards of a dataset and exports it in every format."""
    from pathlib import Path

    from defectline.components.common.settings import select
    from defectline.components.train.settings import TrainParameters
    from defectline.components.train.step import train as run_step

    settings = select(TrainParameters, locals())
    best = run_step(
        [Path(dataset.path) for dataset in datasets],
        Path(model.path),
        Path(history.path),
        settings,
        store=store,
        logs=Path(logs.path),
    )
    for name, value in best.items():
        metrics.log_metric(name, float(value))


def train_fold(
    store: str,
    part: str,
    seed: int,
    settings: dict,
    dataset: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
    history: Output[HTML],
):
    """Trains on a dataset of one shard; `settings` are those of TrainParameters but the seed.

    `part` says in words which fold it is.
    """
    from pathlib import Path

    from defectline.components.train.step import train as run_step

    best = run_step(
        Path(dataset.path),
        Path(model.path),
        Path(history.path),
        {**settings, "seed": seed},
        store=store,
        part=f"{part}, seed {int(seed)}",
    )
    for name, value in best.items():
        metrics.log_metric(name, float(value))
