"""The network: a U-Net whose encoder is MobileNetV2, in backend-neutral Keras 3."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from defectline.components.common.classes import DEFAULT_CLASSES, outputs
from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import did_you_mean
from defectline.components.train.decoders import DECODERS
from defectline.components.train.settings import DECODER, DecoderName
from defectline.components.train.weights import load_encoder

SKIPS = ("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
"""Encoder outputs at 1/2, 1/4, 1/8 and 1/16 of the input's side."""
BOTTOM = "block_16_project"
PRIOR = 0.01
"""Probability of a defect before anything is learned."""


def build_network(
    image_size: int,
    channels: int = 1,
    batch_norm_momentum: float = 0.9,
    encoder_weights: str = "none",
    classes: Sequence[str] = DEFAULT_CLASSES,
    decoder: DecoderName = DECODER,
    encoder_width: float = 1.0,
) -> keras.Model:
    """A network from pixel values to class probabilities.

    Takes float32 (N, image_size, image_size, channels) of 0 to 255, gives float32 (N, image_size, image_size,
    K + 1), for good and each of the K `classes`. The encoder's width is one of WIDTHS. Raises SettingsError
    where its weights cannot be had; it never starts from random ones.
    """
    inputs = keras.Input((image_size, image_size, channels), name="image")
    picture = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Concatenate()([picture] * 3) if channels == 1 else picture
    encoder = _encoder(image_size, encoder_weights, encoder_width)
    features = keras.Model(
        encoder.input, [encoder.get_layer(name).output for name in (*SKIPS, BOTTOM)], name="encoder"
    )
    x = DECODERS[decoder](picture, features(x), outputs(classes))
    # Under mixed precision the probabilities themselves must stay in float32.
    probabilities = layers.Softmax(dtype="float32", name="probability")(x)
    network = keras.Model(inputs, probabilities, name="unet")
    for layer in [*features.layers, *network.layers]:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    _expect_little(network.get_layer("logits").bias)
    return network


def _expect_little(bias: keras.Variable) -> None:
    """Let a network with random weights begin by calling nearly everything good, as nearly everything is.

    Else it spends its first hundreds of steps on learning that, and some never get beyond (T.-Y. Lin and
    others, Focal Loss, 2017, section 3.3).
    """
    classes = bias.shape[0] - 1
    bias.assign([math.log(1 - PRIOR)] + [math.log(PRIOR / classes)] * classes)


def _encoder(image_size: int, weights: str, width: float) -> keras.Model:
    shape = (image_size, image_size, 3)
    if weights == "imagenet":
        try:
            return keras.applications.MobileNetV2(shape, width, include_top=False, weights="imagenet")
        except Exception as error:  # Keras wraps every download error in a bare Exception
            raise SettingsError(
                "The ImageNet weights cannot be fetched.",
                got=str(error).splitlines()[0],
                expected="a connection to the place from which Keras downloads them",
                fix="Put the file into the store and set encoder_weights to URI#sha256=…, or to none.",
            ) from error
    encoder = keras.applications.MobileNetV2(shape, width, include_top=False, weights=None)
    if weights != "none":
        load_encoder(encoder, weights)
    return encoder


def freeze_encoder(network: keras.Model, until: str) -> None:
    """Make all layers trainable but those of the encoder up to the layer `until` ("": freeze none).

    A frozen batch norm uses its moving statistics and leaves them alone. Raises SettingsError for a layer
    that the encoder does not have.
    """
    encoder = network.get_layer("encoder")
    names = [layer.name for layer in encoder.layers]
    if until and until not in names:
        raise SettingsError(
            f"The encoder has no layer {until}.",
            got=f"freeze_encoder_until={until}",
            expected=f"the name of a layer of MobileNetV2, such as {', '.join((*SKIPS, BOTTOM))}",
            fix=did_you_mean(until, names),
        )
    frozen = names.index(until) + 1 if until else 0
    for index, layer in enumerate(encoder.layers):
        layer.trainable = index >= frozen
