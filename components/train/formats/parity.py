"""Parity: whether an exported file answers as the network that was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import CLASSES, DEFAULT_CLASSES, defect_probability
from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.inspection import answer, to_score_map
from defectline.components.common.inference.network import Network

BATCH = 8
THRESHOLD, MIN_AREA_PX = 0.5, 10
"""Of the verdicts that are compared; evaluate calibrates the line's own."""
TOLERANCE = 1e-3
"""How far a probability of a float32 file may be from Keras': a score is rounded to as much."""


class Parity(NamedTuple):
    """How far apart two networks' probabilities are, of a defect or of each of several classes."""

    largest: float
    mean: float
    pixels: float
    """Share of the pixels that only one of them puts at THRESHOLD or above."""
    verdicts: int
    """Pictures with different verdicts."""


def compare(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> Parity:
    """Compare probabilities of a defect, both (N, S, S), or of good and several classes, (N, S, S, 1 + K)."""
    apart = np.abs(got - wanted)
    got, wanted = (given if given.ndim == 3 else defect_probability(given) for given in (got, wanted))
    pairs = zip(got, wanted, strict=True)
    return Parity(
        largest=float(apart.max()),
        mean=float(apart.mean(dtype=np.float64)),
        pixels=float(np.mean((got >= THRESHOLD) != (wanted >= THRESHOLD))),
        verdicts=sum(_verdict(a) != _verdict(b) for a, b in pairs),
    )


def _verdict(probability: NDArray[np.float32]) -> str:
    return answer(to_score_map(probability), THRESHOLD, MIN_AREA_PX).verdict


def table(found: Mapping[str, Parity]) -> list[str]:
    """The lines of a table of the files, one below another."""
    head = f"{'against Keras':14} {'largest':>8} {'mean':>8} {'pixels':>9} {'verdicts':>8}"
    rows = (f"{n:14} {p.largest:8.1e} {p.mean:8.1e} {p.pixels:9.4%} {p.verdicts:8}" for n, p in found.items())
    return [head, *rows]


def check(file: str, parity: Parity) -> None:
    """Raise BundleError for a float32 file that gives other probabilities than the network."""
    if not parity.largest <= TOLERANCE:
        raise BundleError(
            f"The exported {file} does not answer as the network that was trained.",
            got=f"probabilities up to {parity.largest:.2g} apart, {parity.verdicts} other verdicts",
            expected=f"at most {TOLERANCE:g} apart",
            fix="Train with the versions in requirements/train.txt, which were tested together.",
        )


def ask_keras(network: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities, as `Network` gives them, of prepared pictures uint8 (N, S, S, channels)."""
    # GPUs multiply float32 with a mantissa of 10 bits.
    with keras.device("cpu:0"):
        answers = [network(batch.astype(np.float32), training=False) for batch in _batches(pictures)]
        return np.concatenate([_as_network(keras.ops.convert_to_numpy(given)) for given in answers])


def _as_network(given: NDArray[np.float32]) -> NDArray[np.float32]:
    return defect_probability(given) if given.shape[-1] == CLASSES else given


def ask_file(
    file: Path,
    imaging: ImagingSettings,
    pictures: NDArray[np.uint8],
    classes: Sequence[str] = DEFAULT_CLASSES,
) -> NDArray[np.float32]:
    """The same of an exported file: OpenVINO's .xml, an .onnx, or the folder of a SavedModel."""
    if file.suffix in (".xml", ".onnx"):
        network = Network(file, imaging, classes=classes)
        return np.concatenate([network.probabilities(batch) for batch in _batches(pictures)])
    import tensorflow as tf

    with tf.device("cpu:0"):
        loaded = tf.saved_model.load(str(file))
        answers = [loaded.serve(batch.astype(np.float32)) for batch in _batches(pictures)]
        return np.concatenate([_as_network(given.numpy()) for given in answers])


def _batches(pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
