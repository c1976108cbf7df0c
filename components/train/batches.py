"""The batches of one split, in an order that seed and epoch fix."""

import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.dataset import Split


class Batches(keras.utils.PyDataset):
    """Batches of (images uint8 (N, S, S, C), masks uint8 (N, S, S)) of one split.

    With a seed every epoch has an order of its own, and the last batch is filled up from the epoch's first
    pictures: batches of one size compile once and keep batch statistics honest. Keras reads ahead in a
    thread while the device computes.
    """

    def __init__(self, split: Split, batch_size: int, seed: int | None = None):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.order = split.rows
        self.shuffle(0)

    def __len__(self) -> int:
        return -(-len(self.split.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.seed is not None:
            rows = np.resize(np.concatenate([rows, self.order]), self.batch_size)
        return ((self.split.images[rows], self.split.masks[rows]),)

    def shuffle(self, epoch: int) -> None:
        """Put the pictures into the order of an epoch, which no epoch before it takes part in."""
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(self.split.rows)
