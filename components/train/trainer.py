"""What happens on the device in each step, in backend-neutral Keras 3."""

import keras
from keras import ops

from defectline.components.common.classes import (
    ANY_CLASS,
    CLASSES,
    DEFECT,
    FILLER,
    IGNORE,
    defect_probability,
)
from defectline.components.train.augmentation import Augment
from defectline.components.train.loss import classes_loss, cross_entropy_and_dice, label_loss
from defectline.components.train.settings import DEFAULT_AUGMENTATION, Augmentation


class Trainer(keras.Model):
    """The network with its augmentation in front, so that both run in one compiled step.

    Its batches are those of Batches, all as inputs: the mask must be turned with its image. What holds IGNORE
    in a mask has no part in loss and metrics; `ignores` says whether anything may. Of a picture without a
    mask the label alone has a part in the loss. The metric `iou` is that of the defects, of several classes
    the mean. Where several `replicas` share a batch, each takes the loss of its own part, Dice included, and
    the gradients are those of the mean over the replicas; metrics count over all. `fills` says whether a
    batch may be filled up, by pictures whose masks are all FILLER: they have no part in anything.
    """

    def __init__(
        self,
        network: keras.Model,
        seed: int,
        replicas: int = 1,
        ignores: bool = False,
        augmentation: Augmentation = DEFAULT_AUGMENTATION,
        fills: bool = False,
    ):
        super().__init__()
        self.network, self.replicas = network, replicas
        self.ignores, self.fills = ignores or fills, fills
        self.augment = Augment(seed, augmentation)
        self.loss_mean = keras.metrics.Mean(name="loss")
        outputs = network.output_shape[-1]
        self.several = outputs > CLASSES
        self.defect_iou = (
            keras.metrics.IoU(
                num_classes=outputs,
                target_class_ids=list(range(1, outputs)),
                ignore_class=IGNORE,
                sparse_y_pred=False,
                name="iou",
            )
            if self.several
            else keras.metrics.BinaryIoU(target_class_ids=[DEFECT], threshold=0.5, name="iou")
        )

    def call(self, inputs, training=False):
        image, mask, *unmasked = (ops.cast(x, "float32") for x in inputs)
        if training:
            image, mask = self.augment(image, mask)
        probabilities = self.network(image, training=training)
        found = probabilities if self.several else defect_probability(probabilities)
        if not unmasked:
            return found, mask
        alone = unmasked[0][:, None, None]
        return found, ops.where(alone > 0, float(IGNORE), mask), alone * ops.cast(mask != IGNORE, "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        probability, mask, *seen = y_pred
        pictures, mask = self._real(mask)
        if self.several:
            loss = classes_loss(mask, probability)
        else:
            counts = self._counts(mask)
            loss = cross_entropy_and_dice(mask, probability, counts)
        if seen:
            defect = defect_probability(probability) if self.several else probability
            loss = loss + label_loss(defect, seen[0], pictures)
        self.loss_mean.update_state(loss, sample_weight=pictures)
        # Gradients of the replicas are summed.
        return loss / self.replicas

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probability, mask = y_pred[0], self._real(y_pred[1])[1]
        counts = None if self.several else self._counts(mask)
        # Where nothing counts, the weight is 0; IGNORE itself is not a number of the metric.
        truth = ops.where(mask == ANY_CLASS, IGNORE, mask) if counts is None else mask * counts
        weight = None if counts is None else ops.cast(counts, "int32")
        self.defect_iou.update_state(truth, probability, weight)
        return {"loss": self.loss_mean.result(), "iou": self.defect_iou.result()}

    def _real(self, mask):
        """How many pictures there are, and their masks: of those that only fill up nothing counts."""
        if not self.fills:
            return ops.cast(ops.shape(mask)[0], "float32"), mask
        filler = mask == FILLER
        pictures = ops.sum(ops.cast(ops.logical_not(filler[:, 0, 0]), "float32"))
        return pictures, ops.where(filler, float(IGNORE), mask)

    def _counts(self, mask):
        return ops.cast(mask != IGNORE, "float32") if self.ignores else None

    @property
    def metrics(self):
        return [self.loss_mean, self.defect_iou]
