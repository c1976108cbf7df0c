"""What becomes of a verdict where the part lies a little elsewhere, or is lit a little otherwise."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.images.reading import decode_image
from defectline.components.common.prediction import Prediction
from defectline.pipeline.qualification.endpoint import Endpoint

SHIFTS_PX = (1, 2, 4)
EXPOSURES = (0.9, 0.95, 1.05, 1.1)
COLOURS = 3
"""A grey picture is the same in three channels."""


class Change(NamedTuple):
    """What was done to pictures, and what became of their verdicts."""

    name: str
    asked: int
    changed: int
    """Verdicts that are others than without it."""
    furthest: float
    """The largest change of a score."""


def variants(image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each way that a picture (H, W, C) may differ, by name. Edges are repeated. Pure."""
    height, width = image.shape[:2]
    for pixels in SHIFTS_PX:
        if pixels * 4 > min(height, width):
            continue
        padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        for down, right in ((0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels)):
            yield f"{pixels} px aside", padded[down : down + height, right : right + width]
    for factor in EXPOSURES:
        lit = np.clip(np.rint(image.astype(np.float32) * factor), 0, 255).astype(np.uint8)
        yield f"exposure × {factor:g}", lit


def measure(client: Endpoint, pictures: list[bytes], advance: Callable[[], None]) -> list[Change]:
    """Judge each picture in all variants, against itself as a PNG. Raises as the client does."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for data in pictures:
        image = decode_image(data, COLOURS)
        own = _judge(client, image)
        for name, variant in variants(image):
            other = _judge(client, variant)
            change = (other.verdict != own.verdict, abs(other.score - own.score))
            found.setdefault(name, []).append(change)
        advance()
    return [
        Change(name, len(all_), sum(changed for changed, _ in all_), max(far for _, far in all_))
        for name, all_ in found.items()
    ]


def _judge(client: Endpoint, image: NDArray[np.uint8]) -> Prediction:
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", compress_level=1)
    return client.inspect(png.getvalue(), mask=False, review=False)
