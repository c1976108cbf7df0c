"""What training minimises, in backend-neutral Keras 3."""

import keras
from keras import ops


def cross_entropy_and_dice(mask, probability):
    """Cross-entropy plus soft Dice of the defect class over the batch, a scalar.

    Both arguments are float32 (N, S, S), the mask of 0 and 1. Dice balances the 0.3 % of pixels that are
    defects, cross-entropy gives good images a gradient.
    """
    # The last validation batch may have no image for a replica, and a mean of none is not a number.
    pixels = keras.losses.binary_crossentropy(mask[..., None], probability[..., None])
    cross_entropy = ops.sum(pixels) / ops.maximum(1.0, ops.cast(ops.size(pixels), "float32"))
    overlap = 2 * ops.sum(probability * mask)
    dice = 1 - (overlap + 1) / (ops.sum(probability) + ops.sum(mask) + 1)
    return cross_entropy + dice
