"""Random changes of the training images, in backend-neutral Keras 3."""

import math

import keras
from keras import ops

from defectline.components.train.settings import DEFAULT_AUGMENTATION, Augmentation

BLUR = (1, 4, 6, 4, 1)
"""A row of the kernel: a blur by about one pixel."""


class Augment(keras.layers.Layer):
    """Each picture with its mask, changed at random as far as the settings say.

    Takes images float32 (N, S, S, C) of 0 to 255 and masks float32 (N, S, S) of numbers of classes;
    gives the same. What a turned or smaller picture does not fill shows it mirrored. JPEG is for Batches.
    """

    def __init__(self, seed: int, chosen: Augmentation = DEFAULT_AUGMENTATION, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.chosen = chosen
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, image, mask):
        chosen = self.chosen
        both = ops.concatenate([image, mask[..., None]], axis=-1)
        if chosen.flip:
            both = ops.where(self._draw(both, 0, 1) < 0.5, ops.flip(both, axis=1), both)
            both = ops.where(self._draw(both, 0, 1) < 0.5, ops.flip(both, axis=2), both)
        elif chosen.turn:
            both = ops.where(self._draw(both, 0, 1) < 0.5, ops.flip(both, axis=(1, 2)), both)
        if chosen.turn:
            turned = ops.transpose(both, (0, 2, 1, 3))
            # Of a mirrored picture, a quarter turn and the diagonal's mirror image are as likely.
            turned = turned if chosen.flip else ops.flip(turned, axis=2)
            both = ops.where(self._draw(both, 0, 1) < 0.5, turned, both)
        image, mask = both[..., :-1], both[..., -1]
        if chosen.rotation or chosen.zoom:
            image, mask = self._move(image, mask)
        if chosen.gamma:
            image = 255 * ops.power(image / 255, self._factor(image, chosen.gamma))
        if chosen.blur:
            share = self._draw(image, 0, chosen.blur)
            image = (1 - share) * image + share * _blurred(image)
        if chosen.contrast:
            mean = ops.mean(image, axis=(1, 2), keepdims=True)
            image = (image - mean) * self._draw(image, 1 - chosen.contrast, 1 + chosen.contrast) + mean
        if chosen.brightness:
            image = image + 255 * self._draw(image, -chosen.brightness, chosen.brightness)
        if chosen.noise:
            strength = 255 * self._draw(image, 0, chosen.noise)
            image = image + strength * keras.random.normal(ops.shape(image), seed=self.seeds)
        return ops.clip(image, 0, 255), mask

    def _draw(self, images, low: float, high: float):
        """A number for each picture, (N, 1, 1, 1)."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1, 1), low, high, seed=self.seeds)

    def _factor(self, images, share: float):
        """Up to 1 + share or, as likely, one by that."""
        most = math.log1p(share)
        return ops.exp(self._draw(images, -most, most))

    def _move(self, image, mask):
        """Rotated about its middle, larger or smaller."""
        angle = self._draw(image, -self.chosen.rotation, self.chosen.rotation)[:, 0, 0, 0] * (math.pi / 180)
        zoom = self._factor(image, self.chosen.zoom)[:, 0, 0, 0]
        along, across = ops.cos(angle) / zoom, ops.sin(angle) / zoom
        middle = (image.shape[1] - 1) / 2
        # Where each pixel of the result comes from: a row of eight numbers a picture.
        x, y = middle * (1 - along + across), middle * (1 - along - across)
        none = ops.zeros_like(angle)
        where = ops.stack([along, -across, x, across, along, y, none, none], axis=1)
        settings = {"fill_mode": "reflect", "data_format": "channels_last"}
        image = ops.image.affine_transform(image, where, interpolation="bilinear", **settings)
        mask = ops.image.affine_transform(mask[..., None], where, interpolation="nearest", **settings)
        return image, mask[..., 0]


def _blurred(image):
    row = ops.convert_to_tensor(BLUR, "float32") / sum(BLUR)
    kernel = ops.tile((row[:, None] * row[None, :])[..., None, None], (1, 1, image.shape[-1], 1))
    edge = len(BLUR) // 2
    image = ops.pad(image, [[0, 0], [edge, edge], [edge, edge], [0, 0]], mode="reflect")
    return ops.depthwise_conv(image, kernel, padding="valid", data_format="channels_last")
