"""Weights of the real network that find what the suite's pictures show: trainings of two epochs are then as
good as each other, and the gate lets one follow the other."""

from pathlib import Path

import keras
import numpy as np

from defectline.components.train.network import build_network

BRIGHT = 0.45
"""Of -1 to 1: brighter pixels are defects."""
SURE = 40.0
"""Logits for each 1 above BRIGHT."""
TRAINING = "training=learning_rate=1e-9 batch_norm_momentum=0.999999"
"""With these settings they stay as they are."""


def save_weights(path: Path, size: int) -> None:
    """The network for grey pictures size×size, as a file for `init_from`."""
    keras.utils.set_random_seed(0)
    network = build_network(size)
    kernel = np.zeros_like(network.get_layer("edge").get_weights()[0])
    # The picture itself is the last of the channels; only its own pixel counts.
    kernel[1, 1, -1, 0] = 1
    network.get_layer("edge").set_weights([kernel])
    scale, shift, mean, variance = network.get_layer("edge_BN").get_weights()
    network.get_layer("edge_BN").set_weights([scale, shift - BRIGHT, mean, variance])
    kernel, bias = (np.zeros_like(weight) for weight in network.get_layer("logits").get_weights())
    kernel[..., 0, 1], bias[1] = SURE, -SURE / 5
    network.get_layer("logits").set_weights([kernel, bias])
    network.save(path)
