"""Ask a network for pictures of a snapshot, and count what it answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.inference.inspection import Answer, Network, answer
from defectline.components.common.legend import decode_truth
from defectline.components.common.snapshot import Pair, read_files
from defectline.components.common.steps import track
from defectline.components.common.storage import Storage
from defectline.components.evaluate.calibration import Calibrator, OperatingPoint
from defectline.components.evaluate.metrics import Count, count
from defectline.components.evaluate.pixels import Pixels


class Scored(NamedTuple):
    counts: list[Count]
    pixels: Pixels


class Evaluated(NamedTuple):
    """A picture with its truth and the answer to it, while it is in memory."""

    pair: Pair
    image: bytes
    truth: NDArray[np.uint8]
    score_map: NDArray[np.uint16]
    answer: Answer
    counted: Count


def calibrate(
    network: Network, storage: Storage, pairs: Sequence[Pair], escape_cost: float
) -> OperatingPoint:
    """Threshold and least area for the network's answers to `pairs`."""
    calibrator = Calibrator()
    for pair, image, _ in track(read_files(storage, pairs), len(pairs), "calibrating"):
        calibrator.see(pair.label, network.score_map(image))
    return calibrator.calibrate(escape_cost)


def score(
    network: Network,
    point: OperatingPoint,
    storage: Storage,
    pairs: Sequence[Pair],
    what: str,
    collect: Callable[[Evaluated], None] | None = None,
) -> Scored:
    """Counts of every picture; `collect` gets each, and may keep some."""
    scored = Scored([], Pixels())
    for pair, image, mask in track(read_files(storage, pairs), len(pairs), what):
        score_map = network.score_map(image)
        truth = decode_truth(mask, score_map.shape, pair, DEFAULT_CLASSES, {})
        given = answer(score_map, point.threshold, point.min_area_px)
        scored.counts.append(count(pair.id, pair.label, given, truth))
        scored.pixels.see(score_map, truth)
        if collect:
            collect(Evaluated(pair, image, truth, score_map, given, scored.counts[-1]))
    return scored
