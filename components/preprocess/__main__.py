"""`python -m defectline.components.preprocess STORE SNAPSHOT DATASET`"""

from pathlib import Path

import typer

from defectline.components.preprocess.preparing import preprocess


def main(
    store: str, snapshot: str, dataset: Path, image_size: int = 224, channels: int = 1, enhance: bool = False
) -> None:
    """Prepare the arrays to train on from a snapshot, in the folder DATASET."""
    imaging = {"image_size": image_size, "channels": channels, "enhance": enhance}
    preprocess(store, snapshot, dataset, imaging)


if __name__ == "__main__":
    typer.run(main)
