"""What happens on the device in each step: augmentation, loss and metrics, in backend-neutral Keras 3."""

import keras
from keras import ops

from defectline.components.common.classes import DEFECT, defect_probability


class Augment(keras.layers.Layer):
    """Random flips, quarter turns, brightness and contrast, each picture with its mask.

    Takes images float32 (N, S, S, C) of 0 to 255 and masks float32 (N, S, S) of 0 and 1; gives the same.
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


class Trainer(keras.Model):
    """The network with its augmentation in front, so that both run in one compiled step.

    Its batches are (images uint8 (N, S, S, C), masks uint8 (N, S, S)), both as inputs: the mask must be
    turned with its picture. Loss: cross-entropy plus soft Dice of the defect class over the batch; Dice
    balances the 0.3 % of pixels that are defects, cross-entropy gives good pictures a gradient.
    Where several `replicas` share a batch, each takes the loss of its own part, Dice included, and the
    gradients are those of the mean over the replicas; metrics count over all.
    """

    def __init__(self, network: keras.Model, seed: int, replicas: int = 1):
        super().__init__()
        self.network, self.replicas = network, replicas
        self.augment = Augment(seed)
        self.loss_mean = keras.metrics.Mean(name="loss")
        self.defect_iou = keras.metrics.BinaryIoU(target_class_ids=[DEFECT], threshold=0.5, name="iou")

    def call(self, inputs, training=False):
        image, mask = (ops.cast(x, "float32") for x in inputs)
        if training:
            image, mask = self.augment(image, mask)
        return defect_probability(self.network(image, training=training)), mask

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        probability, mask = y_pred
        # The last validation batch may have no picture for a replica, and a mean of none is not a number.
        pixels = keras.losses.binary_crossentropy(mask[..., None], probability[..., None])
        cross_entropy = ops.sum(pixels) / ops.maximum(1.0, ops.cast(ops.size(pixels), "float32"))
        overlap = 2 * ops.sum(probability * mask)
        dice = 1 - (overlap + 1) / (ops.sum(probability) + ops.sum(mask) + 1)
        loss = cross_entropy + dice
        self.loss_mean.update_state(loss, sample_weight=ops.cast(ops.shape(mask)[0], "float32"))
        # Gradients of the replicas are summed.
        return loss / self.replicas

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probability, mask = y_pred
        self.defect_iou.update_state(mask, probability)
        return {"loss": self.loss_mean.result(), "iou": self.defect_iou.result()}

    @property
    def metrics(self):
        return [self.loss_mean, self.defect_iou]
