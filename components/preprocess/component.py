"""The preprocess step as KFP sees it."""

from kfp.dsl import Dataset, Output


def preprocess(
    store: str, snapshot: str, image_size: int, channels: int, enhance: bool, dataset: Output[Dataset]
):
    """Prepares the arrays to train on from a snapshot."""
    from pathlib import Path

    from defectline.components.preprocess.preparing import preprocess as run_step

    imaging = {"image_size": image_size, "channels": channels, "enhance": enhance}
    run_step(store, snapshot, Path(dataset.path), imaging)
