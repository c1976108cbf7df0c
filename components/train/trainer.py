"""What happens on the device in each step, in backend-neutral Keras 3."""

import keras
from keras import ops

from defectline.components.common.classes import DEFECT, defect_probability
from defectline.components.train.augmentation import Augment
from defectline.components.train.loss import cross_entropy_and_dice


class Trainer(keras.Model):
    """The network with its augmentation in front, so that both run in one compiled step.

    Its batches are (images uint8 (N, S, S, C), masks uint8 (N, S, S)), both as inputs: the mask must be
    turned with its image. Where several `replicas` share a batch, each takes the loss of its own part, Dice
    included, and the gradients are those of the mean over the replicas; metrics count over all.
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
        loss = cross_entropy_and_dice(mask, probability)
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
