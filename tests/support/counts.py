"""Counts of pictures made by hand, for the tests of metrics, gate and report."""

import numpy as np

from defectline.components.evaluate.metrics import Count


def counted(
    label: str,
    verdict: str,
    tp: int = 0,
    fp: int = 0,
    fn: int = 0,
    score: float = 0.5,
    id: str = "x",
) -> Count:
    """A picture with one small defect region, or none where neither `tp` nor `fn` says otherwise."""
    return Count(
        id,
        label,
        verdict,
        score,
        tp,
        fp,
        fn,
        regions=(int(tp + fn > 0), 0, 0),
        regions_hit=(int(tp > 0), 0, 0),
    )


def answers(label: str, verdicts: str) -> list[Count]:
    """One picture a letter: `r` has the right verdict and every pixel right, `w` the wrong verdict and every
    pixel wrong."""
    other = {"OK": "NG", "NG": "OK"}[label]
    made = []
    for number, letter in enumerate(verdicts):
        right = letter == "r"
        pixels = {"tp": 100} if right else {"fn": 100}
        if label == "OK":
            pixels = {} if right else {"fp": 100}
        made.append(counted(label, label if right else other, **pixels, id=f"{label}/{number}"))
    return made


def stored_counts(wrong: str, ids: range = range(10), tp: int = 8) -> list[dict]:
    """As counts.json: good pictures of even numbers and bad ones of odd, of which those in `wrong` got the
    other verdict."""
    made = []
    for number in ids:
        label = ("OK", "NG")[number % 2]
        other = ("NG", "OK")[number % 2] if str(number) in wrong.split() else label
        pixels = {"tp": tp, "fp": 0, "fn": 10 - tp} if number % 2 else {"tp": 0, "fp": 0, "fn": 0}
        made.append({"id": f"{label}/{number}", "label": label, "verdict": other, **pixels})
    return made


def score_map(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """A score map (20, 20) with boxes of y, x, height, width, level."""
    made = np.zeros((20, 20), np.uint16)
    for y, x, height, width, level in boxes:
        made[y : y + height, x : x + width] = level
    return made
