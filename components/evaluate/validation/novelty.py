"""What the training pictures look like to the network, so that the endpoint notices what does not."""

from collections.abc import Sequence

import numpy as np

from defectline.components.common.inference.network import Network
from defectline.components.common.inference.novelty import Features, Novelty
from defectline.components.common.snapshot import Pair, read_files
from defectline.components.common.steps import track
from defectline.components.common.storage import Storage

MOST_PICTURES = 256
"""Of each split: more would say little more, and each has to be judged."""


def learn_novelty(
    network: Network, storage: Storage, training: Sequence[Pair], validation: Sequence[Pair]
) -> Novelty | None:
    """From pairs of a snapshot, evenly thinned; None where the network's engine has no features, or a split
    has no picture."""
    parts = [_thinned(pairs) for pairs in (training, validation)]
    if not all(parts):
        return None
    files = track(
        ((split, image) for split, pairs in enumerate(parts) for _, image, _ in read_files(storage, pairs)),
        sum(map(len, parts)),
        "what training pictures look like",
    )
    found: tuple[list[Features], list[Features]] = [], []
    for split, image in files:
        features = network.maps(image).features
        if features is None:
            return None
        found[split].append(features)
    return Novelty.of(*found)


def _thinned(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= MOST_PICTURES:
        return list(pairs)
    return [pairs[int(index)] for index in np.linspace(0, len(pairs) - 1, MOST_PICTURES)]
