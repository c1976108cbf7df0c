"""The network: a U-Net whose encoder is MobileNetV2, in backend-neutral Keras 3."""

import hashlib
import tempfile
from pathlib import Path

import keras
from keras import layers

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage import open_storage

SKIPS = ("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
"""Encoder outputs at 1/2, 1/4, 1/8 and 1/16 of the input's side."""
BOTTOM = "block_16_project"
DECODER_FILTERS = (576, 192, 144, 96)


def build_network(
    image_size: int, channels: int = 1, batch_norm_momentum: float = 0.9, encoder_weights: str = "none"
) -> keras.Model:
    """A network from pixel values to class probabilities.

    Takes float32 (N, image_size, image_size, channels) of 0 to 255, gives float32
    (N, image_size, image_size, 2): probability of good and of defect.
    Raises SettingsError where the encoder's weights cannot be had; it never starts from random weights
    instead.
    """
    inputs = keras.Input((image_size, image_size, channels), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    if channels == 1:
        x = layers.Concatenate()([x, x, x])
    encoder = _encoder(image_size, encoder_weights)
    features = keras.Model(
        encoder.input, [encoder.get_layer(name).output for name in (*SKIPS, BOTTOM)], name="encoder"
    )
    *skips, x = features(x)
    for filters, skip in zip(DECODER_FILTERS, reversed(skips), strict=True):
        x = _upsample(filters)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Concatenate()([x, skip])
    x = layers.Conv2DTranspose(2, 3, strides=2, padding="same", name="logits")(x)
    # Under mixed precision the probabilities themselves must stay in float32.
    outputs = layers.Softmax(dtype="float32", name="probability")(x)
    network = keras.Model(inputs, outputs, name="unet")
    for layer in [*features.layers, *network.layers]:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    return network


def _upsample(filters: int) -> layers.Layer:
    return layers.Conv2DTranspose(
        filters,
        3,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
    )


def _encoder(image_size: int, weights: str) -> keras.Model:
    shape = (image_size, image_size, 3)
    if weights == "imagenet":
        try:
            return keras.applications.MobileNetV2(shape, include_top=False, weights="imagenet")
        except Exception as error:  # Keras wraps every download error in a bare Exception
            raise SettingsError(
                "The ImageNet weights cannot be fetched.",
                got=str(error).splitlines()[0],
                expected="a connection to the place from which Keras downloads them",
                fix="Put the file into the store and set encoder_weights to URI#sha256=…, or to none.",
            ) from error
    encoder = keras.applications.MobileNetV2(shape, include_top=False, weights=None)
    if weights != "none":
        _load_weights(encoder, weights)
    return encoder


def _load_weights(encoder: keras.Model, reference: str) -> None:
    uri, _, digest = reference.partition("#sha256=")
    folder, _, name = uri.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, name)
        try:
            open_storage(folder or ".").download(name, path)
        except KeyError:
            raise SettingsError(
                "The encoder's weights are missing.",
                got=f"nothing at {uri}",
                expected="a Keras weights file of MobileNetV2 without its top (.h5 or .weights.h5)",
                fix="Correct encoder_weights, or set it to none.",
            ) from None
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest and actual != digest:
            raise SettingsError(
                "The encoder's weights are not the ones that were asked for.",
                got=f"SHA-256 {actual}",
                expected=digest,
                fix="Fetch the file again, or correct the digest in encoder_weights.",
            )
        try:
            encoder.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise SettingsError(
                "The encoder's weights do not fit.",
                got=str(error).splitlines()[0],
                expected="a Keras weights file of MobileNetV2 without its top",
                fix="Save it from keras.applications.MobileNetV2(include_top=False).",
            ) from error
