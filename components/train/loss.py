"""What training minimises, in backend-neutral Keras 3."""

import keras
from keras import ops

from defectline.components.common.classes import ANY_CLASS, GOOD, IGNORE


def cross_entropy_and_dice(mask, probability, counts=None):
    """Cross-entropy plus soft Dice of the defect class over the batch, a scalar.

    Both arguments are float32 (N, S, S), the mask of 0 and 1. Dice balances the 0.3 % of pixels that are
    defects, cross-entropy gives good images a gradient. With `counts`, of the same shape, only those pixels
    count where it is 1; elsewhere it is 0.
    """
    # The last validation batch may have no image for a replica, and a mean of none is not a number.
    if counts is None:
        pixels = keras.losses.binary_crossentropy(mask[..., None], probability[..., None])
        cross_entropy = ops.sum(pixels) / ops.maximum(1.0, ops.cast(ops.size(pixels), "float32"))
    else:
        mask, probability = mask * counts, probability * counts
        pixels = keras.losses.binary_crossentropy(mask[..., None], probability[..., None])
        cross_entropy = ops.sum(pixels * counts) / ops.maximum(1.0, ops.sum(counts))
    return cross_entropy + _dice(mask, probability)


def classes_loss(mask, probabilities):
    """The same for several classes, a scalar: cross-entropy over all of them, and the mean of two soft Dices,
    that of any defect and that of the classes which the batch shows.

    `mask` is float32 (N, S, S), the numbers of classes, of which IGNORE has no part in either, and ANY_CLASS
    in nothing but whether it is a defect; `probabilities` is float32 (N, S, S, 1 + K).
    """
    counts = ops.cast(mask != IGNORE, "float32")
    unnamed = ops.cast(mask == ANY_CLASS, "float32")
    # The rows of IGNORE and ANY_CLASS are all 0.
    truth = ops.one_hot(ops.cast(mask, "int32"), probabilities.shape[-1], dtype="float32")
    least = keras.config.epsilon()
    likely = ops.log(ops.clip(probabilities, least, 1.0))
    defect = 1 - probabilities[..., GOOD]
    total = ops.sum(truth * likely) + ops.sum(unnamed * ops.log(ops.clip(defect, least, 1.0)))
    cross_entropy = -total / ops.maximum(1.0, ops.sum(counts))
    any_defect = _dice(ops.sum(truth[..., 1:], axis=-1) + unnamed, defect * counts)
    named = (counts - unnamed)[..., None]
    each = _dice(truth[..., 1:], probabilities[..., 1:] * named, axis=(0, 1, 2))
    # Of a class that a batch does not show, Dice draws all pixels down by far more than the few of a defect
    # are ever drawn up; of many classes most are not shown, and nothing would be learned.
    shown = ops.cast(ops.sum(truth[..., 1:], axis=(0, 1, 2)) > 0, "float32")
    named_dice = ops.sum(each * shown) / ops.maximum(1.0, ops.sum(shown))
    return cross_entropy + (any_defect + named_dice) / 2


TOP = 0.001
"""Share of a picture's pixels by which its label is judged."""


def label_loss(probability, seen, pictures=None):
    """What the label of the pictures costs that are defective somewhere, a scalar: the mean over the batch
    of -log p, where p is the mean of the TOP highest probabilities of a picture.

    `probability`, of a defect, is float32 (N, S, S); `seen`, of the same shape, is 1 in those pictures where
    a defect would count, and 0 elsewhere and in all others. `pictures` says how many there are, where others
    fill up the batch.
    """
    pictures = ops.cast(ops.shape(seen)[0], "float32") if pictures is None else pictures
    pixels = probability.shape[1] * probability.shape[2]
    unmasked = ops.cast(ops.sum(seen, axis=(1, 2)) > 0, "float32")
    flat = ops.reshape(probability * seen, (-1, pixels))
    highest, _ = ops.top_k(flat, max(1, round(TOP * pixels)), sorted=False)
    pooled = ops.clip(ops.mean(highest, axis=1), keras.config.epsilon(), 1.0)
    return -ops.sum(ops.log(pooled) * unmasked) / ops.maximum(1.0, pictures)


def _dice(mask, probability, axis=None):
    overlap = 2 * ops.sum(probability * mask, axis=axis)
    return 1 - (overlap + 1) / (ops.sum(probability, axis=axis) + ops.sum(mask, axis=axis) + 1)
