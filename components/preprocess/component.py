"""The preprocess step as KFP sees it."""

from kfp.dsl import Dataset, Output


def preprocess(
    store: str,
    snapshot: str,
    image_size: int,
    channels: int,
    enhance: bool,
    resize: str,
    tile: bool,
    empty_tiles: float,
    shard: int,
    shards: int,
    dataset: Output[Dataset],
    part: str = "",
):
    """Prepares one shard of the arrays to train on from a snapshot.

    `part` says in words what the snapshot is, where there are several.
    """
    from pathlib import Path

    from defectline.components.common.settings import select
    from defectline.components.preprocess.settings import PreprocessSettings
    from defectline.components.preprocess.step import preprocess as run_step

    settings = select(PreprocessSettings, locals())
    run_step(store, snapshot, Path(dataset.path), settings, shard, shards, part)
