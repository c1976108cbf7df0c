"""What the training pictures look like, to notice on the line when pictures have changed.

statistics.json (in every shard of a dataset, in the model's folder and in the bundle):

    {"pictures": 240,          of the training split
     "defective": 118,         labelled NG; the defect rate is defective / pictures
     "brightness": {"edges": [0, 4, …, 256], "counts": [0, 3, …]},
     "contrast":   {"edges": [0, 2, …, 128], "counts": […]},
     "area":       {"edges": [1, 2, 4, …, 67108864], "counts": […]}}

- brightness: mean grey level of a picture; 64 bins of 4 levels.
- contrast: standard deviation of a picture's grey levels; 64 bins of 2 levels.
- area: defect pixels of a picture that has any, at the picture's own size; 26 bins, each twice as wide as
  the one before.

Bin k counts values from edges[k] (included) to edges[k + 1] (excluded). Everything is taken of whole
pictures as they were decoded, before enhancement, resizing or tiling: what a server sees of an incoming
frame. The edges never change and the counts are integers, so statistics of parts add up exactly.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

NAME = "statistics.json"
BRIGHTNESS_EDGES = tuple(range(0, 257, 4))
CONTRAST_EDGES = tuple(range(0, 129, 2))
AREA_EDGES = tuple(2**k for k in range(27))
"""The largest picture that can be read has fewer than 2^26 pixels."""


class Histogram(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.edges) - 1:
            raise ValueError(f"{len(self.edges) - 1} counts for {len(self.edges)} edges")
        return self

    @classmethod
    def of(cls, values: Iterable[float], edges: tuple[int, ...]) -> Self:
        """Count values that lie from the first edge to below the last."""
        counts = np.zeros(len(edges) - 1, np.int64)
        np.add.at(counts, np.searchsorted(edges, np.array([*values], np.float64), side="right") - 1, 1)
        return cls(edges=edges, counts=tuple(counts.tolist()))

    def __add__(self, other: "Histogram") -> "Histogram":
        if self.edges != other.edges:
            raise ValueError("histograms of different bins cannot be added")
        counts = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(edges=self.edges, counts=tuple(counts))


class ImageStats(NamedTuple):
    """What is noted of one picture."""

    brightness: float
    """Mean grey level, from 0 to 255."""
    contrast: float
    """Standard deviation of the grey levels, from 0 to 127.5."""
    area_px: int
    defective: bool


class Statistics(BaseModel):
    """The content of statistics.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int
    defective: int
    brightness: Histogram
    contrast: Histogram
    area: Histogram

    @classmethod
    def of(cls, images: Iterable[ImageStats]) -> Self:
        images = list(images)
        return cls(
            pictures=len(images),
            defective=sum(image.defective for image in images),
            brightness=Histogram.of((image.brightness for image in images), BRIGHTNESS_EDGES),
            contrast=Histogram.of((image.contrast for image in images), CONTRAST_EDGES),
            area=Histogram.of((image.area_px for image in images if image.area_px), AREA_EDGES),
        )

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            pictures=self.pictures + other.pictures,
            defective=self.defective + other.defective,
            brightness=self.brightness + other.brightness,
            contrast=self.contrast + other.contrast,
            area=self.area + other.area,
        )

    def write(self, folder: Path) -> None:
        (folder / NAME).write_text(self.model_dump_json(indent=2))


def read_statistics(folders: Iterable[Path]) -> Statistics:
    """The sum of the statistics in these folders."""
    parts = [Statistics.model_validate_json((folder / NAME).read_bytes()) for folder in folders]
    return sum(parts, start=Statistics.of([]))


def brightness_and_contrast(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Brightness and contrast of a decoded picture (H, W, 1 or 3); colours count by their luma."""
    grey = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]), float(deviation[0, 0])
