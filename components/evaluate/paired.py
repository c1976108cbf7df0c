"""Is one model worse than another on the same pictures, and by how much at most?"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from defectline.components.evaluate.metrics import draw_ious


def upper_difference(new: int, fixed: int, of: int, confidence: float = 0.95) -> float:
    """Upper one-sided bound of the difference of two error rates over the same `of` pictures.

    `new` pictures only the challenger gets wrong, `fixed` ones only the champion; the others say nothing
    about the difference (new - fixed) / of. Score interval of T. Tango, Statistics in Medicine 17 (1998),
    891-908, which holds for few pictures and for counts of 0 too. Swap the counts and the sign to get the
    lower bound.
    """
    z, difference = norm.ppf(confidence), (new - fixed) / of
    if difference == 1:
        return 1.0

    def beyond(bound: float) -> float:
        """Positive as long as a true difference of `bound` is compatible with the counts."""
        a = 2 * of
        b = -new - fixed + (2 * of - new + fixed) * bound
        c = -fixed * bound * (1 - bound)
        only_champion = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = max(of * (2 * only_champion + bound * (1 - bound)), 0.0)
        return new - fixed - of * bound + z * sqrt(variance)

    # Just above the estimate: at it, the variance of two models that never differ is 0.
    return float(brentq(beyond, difference + 1e-9, 1.0))


def iou_difference(rows: NDArray[np.int64]) -> float | None:
    """IoU of the first model minus that of the second, over the pixels of all pictures together.

    `rows` is (N, 2, 3): tp, fp, fn. None where either has no pixel in truth or prediction.
    """
    sums = rows.sum(axis=0)
    whole = sums.sum(axis=1)
    if not whole.all():
        return None
    first, second = sums[:, 0] / whole
    return float(first - second)


def lower_iou_difference(rows: NDArray[np.int64], confidence: float = 0.95, seed: int = 0) -> float:
    """Lower one-sided bound of `iou_difference`: percentile bootstrap over pictures (B. Efron, 1979), each
    drawn together with both models' pixels of it. `rows` hold a pixel that is true or found."""
    ious = draw_ious(rows, seed)
    differences = ious[:, 0] - ious[:, 1]
    return float(np.quantile(differences[np.isfinite(differences)], 1 - confidence))
