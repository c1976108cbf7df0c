"""A network with the parts that training looks for, small enough to be fitted in seconds."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from defectline.components.common.classes import DEFAULT_CLASSES, outputs
from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.images.imaging import ImagingSettings

IMAGING = ImagingSettings(image_size=32)


def build_small(
    image_size: int,
    channels: int = 1,
    batch_norm_momentum: float = 0.9,
    encoder_weights: str = "none",
    classes: Sequence[str] = DEFAULT_CLASSES,
    decoder: str = "small",
    encoder_width: float = 1.0,
) -> keras.Model:
    """Takes and gives what build_network does; the decoder "transposed" ends with such a layer."""
    inputs = keras.Input((image_size, image_size, channels))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    first = keras.Input((image_size, image_size, channels))
    y = layers.Conv2D(round(4 * encoder_width), 3, strides=2, padding="same", use_bias=False, name="Conv1")(
        first
    )
    y = layers.BatchNormalization(momentum=batch_norm_momentum, name="bn_Conv1")(y)
    y = layers.ReLU(name="Conv1_relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="block_1_project")(y)
    x = keras.Model(first, y, name="encoder")(x)
    x = layers.UpSampling2D()(x)
    last = layers.Conv2DTranspose if decoder == "transposed" else layers.Conv2D
    x = last(outputs(classes), 3, padding="same", name="logits")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="unet")


def make_splits(kinds: int = 1) -> dict[str, Split]:
    """Noise with a bright square and, of two `kinds`, a dark one and a row that does not count; 6 pictures
    to train on, so two batches, and 3 to validate with."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 121, (9, 32, 32, 1), np.uint8)
    masks = np.zeros((9, 32, 32), np.uint8)
    masks[::2, 8:16, 8:16] = 1
    images[masks == 1] = 250
    if kinds == 2:
        masks[1::2, 18:26, 18:26] = 2
        images[masks == 2] = 10
        masks[:, :2] = 255
    arrays = ConcatenatedArray([images]), ConcatenatedArray([masks])
    return {"train": Split(*arrays, np.arange(6)), "validation": Split(*arrays, np.arange(6, 9))}


def same(a: keras.Model, b: keras.Model) -> bool:
    """Whether all weights are equal, bit for bit."""
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))
