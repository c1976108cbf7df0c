"""What the network tells apart in each pixel, and what a whole picture is called.

A prepared mask holds the number of a class in each pixel: GOOD, 1 to K for the classes of defects in the
order of their names, IGNORE where nothing counts. The network gives K + 1 probabilities in this order.
"""

from collections.abc import Sequence
from typing import Any, Literal

GOOD, DEFECT = 0, 1
CLASSES = 2
"""Outputs of a network for DEFAULT_CLASSES."""
ANY_CLASS = 254
"""In a mask to train on: a defect that is of none of several classes, such as a synthetic one."""
FILLER = 253
"""In all of a mask to train on: fills up a batch, and is not a picture of it."""
IGNORE = 255
"""In a mask: does not count, in training as in judging."""
MOST_CLASSES = 32
"""Kinds of defects that a source may have; a mask with greater numbers is taken for a picture."""
DEFAULT_CLASSES = ("defect",)
"""Where nothing names kinds of defects."""
IGNORED_CLASS = "ignore"
"""As the name of a class: does not count."""

LABELS = ("OK", "NG")
"""A picture without a defect, and one with."""


Supervision = Literal["good_only", "image_labels", "some_masks", "masks"]
"""What a model learned from: its defective training pictures are none, or none, some or all have masks."""


def supervision_of(defective: int, masked: int) -> Supervision:
    """What so many defective training pictures, of which so many have masks, teach."""
    if not defective:
        return "good_only"
    return "masks" if masked == defective else "some_masks" if masked else "image_labels"


def describe_supervision(
    supervision: Supervision | Literal[""], classes: Sequence[str] = DEFAULT_CLASSES
) -> str:
    """In words; "" where it is not known.

    >>> describe_supervision("some_masks"), describe_supervision("masks", ("dent", "scratch"))
    ('some masks', 'masks of 2 classes')
    """
    several = len(classes) > 1 and "masks" in supervision
    return supervision.replace("_", " ") + (f" of {len(classes)} classes" if several else "")


def outputs(classes: Sequence[str]) -> int:
    """How many probabilities the network gives in each pixel."""
    return 1 + len(classes)


def defect_mask(truth: Any) -> Any:
    """Where an array of the numbers of classes marks a defect that counts: bool of the same shape."""
    return (truth != GOOD) & (truth != IGNORE)


def defect_probability(probabilities: Any) -> Any:
    """The score of each pixel, (...), from an array or tensor of all probabilities, (..., K + 1)."""
    # 1 minus the probability of GOOD rounds differently, and answers must not change.
    return probabilities[..., DEFECT] if probabilities.shape[-1] == 2 else 1 - probabilities[..., GOOD]
