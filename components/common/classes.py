"""What the network tells apart in each pixel, and what a whole picture is called.

A mask holds the numbers of classes; the network gives a probability for each class, in this order.
"""

from typing import Any

GOOD, DEFECT = 0, 1
CLASSES = 2

LABELS = ("OK", "NG")
"""A picture without a defect, and one with."""


def defect_probability(probabilities: Any) -> Any:
    """The score of each pixel, (...), from an array or tensor of all probabilities, (..., CLASSES)."""
    # 1 minus the probability of GOOD rounds differently, and answers must not change.
    return probabilities[..., DEFECT]
