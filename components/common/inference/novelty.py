"""How unlike the training pictures a picture is: by what the network's encoder sees in it, pooled.

novelty.npz in the bundle:
  training    float32 (k, C), features of training pictures that stand for all: a greedy k-centre choice
  scale       float32 (C,), by which features are divided
  validation  float32 (n,), distances of validation pictures to the nearest of these, in rising order
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.errors import BundleError

NAME = "novelty.npz"
MOST_CENTRES = 256
LEAST_SPREAD = 0.1
"""Of the usual spread of a feature: what hardly varies among training pictures would else decide alone."""

Features = NDArray[np.float32]
"""(T, C): of each tile of a picture, or of the whole, the mean over it of what each channel sees."""


class Novel(NamedTuple):
    """A picture that is farther from the training pictures than validation pictures are."""

    worth: float
    """From 0, as far as the farthest of these, to 1."""
    farthest: Features
    """(1, C), of the tile that is the farthest."""


class Novelty:
    """What is known, of one model."""

    def __init__(
        self, training: NDArray[np.float32], scale: NDArray[np.float32], validation: NDArray[np.float32]
    ):
        self.training, self.scale, self.validation = training, scale, np.sort(validation)

    @classmethod
    def of(cls, training: Sequence[Features], validation: Sequence[Features]) -> Self:
        """From the features of at least one training picture."""
        rows = np.concatenate(training)
        spread = rows.std(axis=0)
        usual = float(np.median(spread)) or 1.0
        scale = np.asarray(np.maximum(spread, LEAST_SPREAD * usual), np.float32)
        known = cls(choose_centres(rows, scale, MOST_CENTRES), scale, np.zeros(0, np.float32))
        distances = [known.distances(features).max() for features in validation]
        known.validation = np.sort(np.array(distances, np.float32))
        return known

    def distances(self, features: Features, others: Iterable[Features] = ()) -> NDArray[np.floating]:
        """(T,): of each row to the nearest of the training pictures' and of `others`."""
        # Features of another network have another meaning, and perhaps another number of channels.
        same = [other for other in others if other.shape[1] == self.training.shape[1]]
        known = np.concatenate([self.training, *same])
        return _distances(features / self.scale, known / self.scale).min(axis=1)

    def judge(
        self, features: Features | None, margin: float, others: Sequence[Features] = ()
    ) -> Novel | None:
        """How novel a picture is beside the training pictures and `others`; None where it is not: where more
        than a share of `margin` of the validation pictures are as far."""
        if features is None or not len(self.validation):
            return None
        distances = self.distances(features, others)
        row = int(distances.argmax())
        limit = float(self.validation[-1 - int(margin * len(self.validation))])
        if distances[row] <= limit:
            return None
        return Novel(1 - limit / float(distances[row]), features[row : row + 1])

    def dump(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, training=self.training, scale=self.scale, validation=self.validation)
        return buffer.getvalue()


def read_novelty(folder: Path) -> Novelty | None:
    """That of the bundle in `folder`; None in older bundles. Raises BundleError for what is not one."""
    file = folder / NAME
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Novelty(arrays["training"], arrays["scale"], arrays["validation"])
    except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
        raise BundleError(
            f"{file} cannot be read.",
            got=str(error),
            expected="features of training pictures",
            fix="Run the pipeline again with --force, or install the version that made the bundle.",
        ) from error


def choose_centres(rows: Features, scale: NDArray[np.float32], most: int) -> Features:
    """At most so many rows of (N, C) that stand for all: each in turn the farthest from those before it,
    from the one nearest to the middle on (T. Gonzalez, 1985: at most twice as far from any row as the best
    choice)."""
    scaled = rows / scale
    chosen = [int(np.linalg.norm(scaled - scaled.mean(axis=0), axis=1).argmin())]
    nearest = _distances(scaled, scaled[chosen])[:, 0]
    while len(chosen) < most and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(scaled, scaled[chosen[-1:]])[:, 0])
    return rows[chosen]


def _distances(rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, M), the root of the mean squared difference."""
    if len(rows) < len(others):
        # One step a row of the fewer ones, not one a centre: a picture is one row.
        return _distances(others, rows).T
    # By way of a product of matrices, what is the same would not be at a distance of 0.
    return np.stack([np.sqrt(((rows - other) ** 2).mean(axis=1)) for other in others], axis=1)
