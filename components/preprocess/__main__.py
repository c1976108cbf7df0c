"""`python -m defectline.components.preprocess STORE SNAPSHOT DATASET`"""

from pathlib import Path

import typer

from defectline.components.preprocess.step import preprocess


def main(
    store: str,
    snapshot: str,
    dataset: Path,
    image_size: int = 224,
    channels: int = 1,
    enhance: bool = False,
    tile: bool = False,
    empty_tiles: float = 0.25,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Prepare the arrays to train on from a snapshot, or one shard of them, in the folder DATASET."""
    settings = {
        "image_size": image_size,
        "channels": channels,
        "enhance": enhance,
        "tile": tile,
        "empty_tiles": empty_tiles,
    }
    preprocess(store, snapshot, dataset, settings, shard, shards)


if __name__ == "__main__":
    typer.run(main)
