"""Twelve labelled pictures with two classes, which the tests of the readers have in every format.

For the tools that make exports as well: nothing but numpy is imported.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 24, 32
CLASSES = ("dent", "scratch")


class Part(NamedTuple):
    name: str
    split: str
    """train, val or test, as most tools call them."""
    boxes: tuple[tuple[str, int, int, int, int], ...]
    """Class, left, top, and the first column and row behind it."""

    @property
    def truth(self) -> dict[str, NDArray[np.bool_]]:
        """Where each class is, (HEIGHT, WIDTH)."""
        found = {name: np.zeros((HEIGHT, WIDTH), bool) for name, *_ in self.boxes}
        for name, left, top, right, bottom in self.boxes:
            found[name][top:bottom, left:right] = True
        return found


def _part(number: int) -> Part:
    name, split = f"part {number}" if number == 3 else f"part_{number}", ("train", "val", "test")[number % 3]
    if number < 6:
        return Part(name, split, ())
    left, top = number % 5, number % 7
    scratch, dent = ("scratch", left, top, left + 9, top + 4), ("dent", 20, 10, 27, 19)
    return Part(name, split, (scratch,) if number < 8 else (dent,) if number < 10 else (scratch, dent))


PARTS = {part.name: part for part in map(_part, range(12))}


def pixels(number: int) -> NDArray[np.uint8]:
    """A picture, (HEIGHT, WIDTH, 3), another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
