"""The batches of one split, in an order that seed and epoch fix."""

from typing import Any, NamedTuple

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import ANY_CLASS, DEFECT, FILLER
from defectline.components.common.dataset import Split
from defectline.components.common.synthetic.generator import paint_defects


class Painting(NamedTuple):
    """Which pictures get synthetic defects."""

    good: NDArray[np.int64]
    """Rows of the arrays that show good pictures: those that may be painted, and that patches come from."""
    share: float
    """Of them, in each epoch."""
    seed: int
    several: bool
    """Whether there are several classes, none of which a synthetic defect has."""


class Share(NamedTuple):
    """Which part of each batch is read here."""

    process: int = 0
    processes: int = 1
    """They take parts of one size, one after another."""
    devices: int = 1
    """Of all processes: a batch that they cannot share evenly is filled up with what does not count."""


WHOLE = Share()
FILLERS = (0, FILLER, 0)
"""What an image, a mask and `unmasked` hold that only fill up a batch."""


class Batches(keras.utils.PyDataset):
    """Batches of (images uint8 (N, S, S, C), masks uint8 (N, S, S)) of one split; where some of its dataset
    have no mask, bool (N,) follows: True for those.

    With a seed every epoch has an order of its own, and the last batch is filled up from the epoch's first
    pictures: batches of one size compile once and keep batch statistics honest. Keras reads ahead in a
    thread while the device computes. With `painting` each epoch shows other synthetic defects; without a
    seed they are always the same. Below 100, `jpeg` is the lowest quality to which each is compressed.

    Order and random numbers are those of the whole batch, of which only the `share` is read and given.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | None = None,
        painting: Painting | None = None,
        jpeg: int = 100,
        share: Share = WHOLE,
    ):
        super().__init__()
        self.split, self.batch_size, self.seed, self.painting = split, batch_size, seed, painting
        self.jpeg, self.share = jpeg, share
        self.good = frozenset(painting.good.tolist()) if painting else frozenset()
        self.order = split.rows
        self.shuffle(0)

    def __len__(self) -> int:
        return -(-len(self.split.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[Any], ...]]:
        first = index * self.batch_size
        rows = self.order[first : first + self.batch_size]
        if self.seed is not None:
            rows = np.resize(np.concatenate([rows, self.order]), self.batch_size)
        count = -(-len(rows) // self.share.devices) * self.share.devices // self.share.processes
        start = self.share.process * count
        here = rows[start : start + count]
        images, masks = self.split.images[here], self.split.masks[here]
        for place, row in enumerate(here.tolist()):
            if row in self.good:
                self._paint(images[place], masks[place], first + start + place)
        if self.jpeg < 100:
            random = np.random.default_rng([self.seed or 0, self.epoch, index])
            qualities = random.integers(self.jpeg, 101, len(rows))[start : start + count]
            for image, quality in zip(images, qualities, strict=True):
                image[...] = _compressed(image, int(quality))
        given: list[NDArray[Any]] = [images, masks]
        if self.split.unmasked is not None:
            given.append(self.split.unmasked[here])
        if len(here) < count:
            given = [_fill(array, count, value) for array, value in zip(given, FILLERS, strict=False)]
        return (tuple(given),)

    def shuffle(self, epoch: int) -> None:
        """Put the pictures into the order of an epoch, which no epoch before it takes part in."""
        self.epoch = 0 if self.seed is None else epoch
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(self.split.rows)

    def _paint(self, image: NDArray[np.uint8], mask: NDArray[np.uint8], place: int) -> None:
        """Perhaps paint defects into the picture at a `place` of the epoch, and mark them."""
        assert self.painting is not None
        random = np.random.default_rng([self.painting.seed, self.epoch, place])
        if random.random() < self.painting.share:
            donor = self.split.images[int(random.choice(self.painting.good))]
            counts = (mask == 0).astype(np.uint8)
            painted = paint_defects(image, donor, random, counts)
            image[...] = painted.picture
            marked = painted.mask
            if self.painting.several:
                marked = np.where(marked == DEFECT, ANY_CLASS, marked).astype(np.uint8)
            mask[...] = np.where(counts, marked, mask)


def _fill(array: NDArray[Any], count: int, value: int) -> NDArray[Any]:
    """The array, with rows of a `value` after it, `count` in all."""
    return np.concatenate([array, np.full((count - len(array), *array.shape[1:]), value, array.dtype)])


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What JPEG leaves of an image (S, S, C)."""
    # OpenCV takes colours as BGR. ::-1 of one channel is the same image.
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
    return decoded.reshape(image.shape)[..., ::-1]
