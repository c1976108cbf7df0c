"""The decoders: from what the encoder sees at five scales to a logit of each class for every pixel.

A decoder takes the picture (N, S, S, C) of -1 to 1, the encoder's outputs from 1/2 of its side down to 1/32,
and how many logits a pixel gets. Every layer with weights has a name of its own: weights are found again by
their names, which also tell those of another decoder.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from defectline.components.train.settings import DecoderName

PIX2PIX_FILTERS = (256, 128, 64, 32)
LIGHT_FILTERS = (128, 64, 32, 16)
"""From 1/16 of the picture's side up to 1/2."""
EDGE_FILTERS = 16


def pix2pix(picture: Any, features: Sequence[Any], outputs: int) -> Any:
    """Transposed convolutions of what was seen so far and of the encoder's outputs as they are."""
    *skips, x = features
    for filters, skip in zip(PIX2PIX_FILTERS, reversed(skips), strict=True):
        x = layers.Concatenate()([_transposed(x, filters), skip])
    # The encoder begins at half resolution; a scratch of two pixels is outlined on the picture itself.
    x = layers.Concatenate()([_transposed(x, EDGE_FILTERS), picture])
    x = _normed(layers.Conv2D(EDGE_FILTERS, 3, padding="same", use_bias=False, name="edge"), x)
    return layers.Conv2D(outputs, 1, name="logits")(layers.ReLU()(x))


def _transposed(x: Any, filters: int) -> Any:
    """Twice the side, with `filters` channels."""
    start = keras.initializers.RandomNormal(0.0, 0.02)
    up = layers.Conv2DTranspose(
        filters,
        3,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer=start,
        name=f"up_{filters}",
    )
    return layers.ReLU()(_normed(up, x))


def light(picture: Any, features: Sequence[Any], outputs: int) -> Any:
    """Sums of both, each brought to few channels first, and separable convolutions."""
    *skips, x = features
    for filters, skip in zip(LIGHT_FILTERS, reversed(skips), strict=True):
        # Made smaller before it is made larger: that commutes, and takes a quarter of the time.
        x = layers.UpSampling2D(2, interpolation="bilinear")(_squeezed(x, f"lift_{filters}", filters))
        x = layers.ReLU()(layers.Add()([x, _squeezed(skip, f"skip_{filters}", filters)]))
        spread = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"spread_{filters}")
        x = layers.ReLU()(_normed(spread, x))
        x = layers.ReLU()(_squeezed(x, f"mix_{filters}", filters))
    # The picture's pixels at half resolution, all of them: sixteen numbers for a window of four by four.
    pixels = layers.Conv2D(EDGE_FILTERS, 4, strides=2, padding="same", use_bias=False, name="pixels")
    x = layers.Concatenate()([x, layers.ReLU()(_normed(pixels, picture))])
    x = _normed(layers.Conv2D(EDGE_FILTERS, 3, padding="same", use_bias=False, name="outline"), x)
    # Each of four neighbouring pixels has weights of its own.
    return layers.Conv2DTranspose(outputs, 2, strides=2, name="logits")(layers.ReLU()(x))


def _squeezed(x: Any, name: str, filters: int) -> Any:
    return _normed(layers.Conv2D(filters, 1, use_bias=False, name=name), x)


def _normed(convolution: keras.Layer, x: Any) -> Any:
    return layers.BatchNormalization(name=f"{convolution.name}_BN")(convolution(x))


DECODERS: dict[DecoderName, Callable[[Any, Sequence[Any], int], Any]] = {"pix2pix": pix2pix, "light": light}
