"""A network with the parts that training looks for, small enough to be fitted in seconds."""

import keras
from keras import layers


def build_small(
    image_size: int, channels: int = 1, batch_norm_momentum: float = 0.9, encoder_weights: str = "none"
) -> keras.Model:
    """Takes and gives what build_network does."""
    inputs = keras.Input((image_size, image_size, channels))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    first = keras.Input((image_size, image_size, channels))
    y = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="Conv1")(first)
    y = layers.BatchNormalization(momentum=batch_norm_momentum, name="bn_Conv1")(y)
    y = layers.ReLU(name="Conv1_relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="block_1_project")(y)
    x = keras.Model(first, y, name="encoder")(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, padding="same", name="logits")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="unet")
