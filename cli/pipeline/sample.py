"""`defectline sample`"""

from pathlib import Path
from typing import Annotated

import typer


def sample(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    pairs: Annotated[int, typer.Option(min=12, help="In total; half of them are NG.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
    size: Annotated[int, typer.Option(max=4096, help="Side of an image in pixels.")] = 224,
) -> None:
    """Make synthetic images of light guide plates with masks, to try everything out."""
    from defectline.components.common.images.sample import generate_samples

    generate_samples(folder, pairs=pairs, seed=seed, size=size)
    typer.echo(f"{folder}: {pairs} synthetic pairs")
