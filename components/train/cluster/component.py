"""The train step on several nodes, as KFP sees it."""

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
    nodes: dict,
    datasets: Input[list[Dataset]],
    model: Output[Model],
    metrics: Output[Metrics],
    history: Output[HTML],
    logs: Output[Artifact],
):
    """Trains the U-Net on several nodes, as a TrainJob of Kubeflow Trainer."""
    from pathlib import Path

    from defectline.components.common.settings import select
    from defectline.components.train.cluster.launcher import train_on_nodes
    from defectline.components.train.settings import TrainParameters

    settings = select(TrainParameters, locals())
    best = train_on_nodes(
        [Path(dataset.path) for dataset in datasets],
        Path(model.path),
        Path(history.path),
        settings,
        nodes,
        store=store,
    )
    # Event files for TensorBoard need TensorFlow to train.
    Path(logs.path).mkdir(parents=True, exist_ok=True)
    for name, value in best.items():
        metrics.log_metric(name, float(value))
