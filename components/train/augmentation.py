"""Random changes of the training images, in backend-neutral Keras 3."""

import keras
from keras import ops


class Augment(keras.layers.Layer):
    """Random flips, quarter turns, brightness and contrast, each picture with its mask.

    Takes images float32 (N, S, S, C) of 0 to 255 and masks float32 (N, S, S) of numbers of classes;
    gives the same.
    """

    def __init__(self, seed: int, brightness: float = 0.15, contrast: float = 0.2, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.brightness, self.contrast = brightness, contrast
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, image, mask):
        batch = ops.shape(image)[0]

        def draw(low: float, high: float):
            return keras.random.uniform((batch, 1, 1, 1), low, high, seed=self.seeds)

        both = ops.concatenate([image, mask[..., None]], axis=-1)
        both = ops.where(draw(0, 1) < 0.5, ops.flip(both, axis=1), both)
        both = ops.where(draw(0, 1) < 0.5, ops.flip(both, axis=2), both)
        both = ops.where(draw(0, 1) < 0.5, ops.transpose(both, (0, 2, 1, 3)), both)
        image, mask = both[..., :-1], both[..., -1]
        mean = ops.mean(image, axis=(1, 2), keepdims=True)
        image = (image - mean) * draw(1 - self.contrast, 1 + self.contrast) + mean
        image = image + 255 * draw(-self.brightness, self.brightness)
        return ops.clip(image, 0, 255), mask
