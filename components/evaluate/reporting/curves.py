"""What the scores and probabilities of the test pictures look like, as figures with a text for each."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from defectline.components.common.classes import LABELS
from defectline.components.evaluate.metrics import Count, Roc, cost_of_escape, roc
from defectline.components.evaluate.pixels import Bin, Pixels
from defectline.components.evaluate.settings import Costs

INCHES, DPI = (4.6, 3.3), 130
GOOD, BAD, CHOSEN = "#2e6f9e", "#c0392b", "#222222"
TABLE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Curve(NamedTuple):
    title: str
    png: bytes
    says: str
    """What is to be seen, in a sentence or two."""


class AtThreshold(NamedTuple):
    """What a threshold would have done to the test pictures, with the least area as it is."""

    threshold: float
    escapes: int
    overkills: int
    cost: float
    chosen: bool


def at_thresholds(counts: Sequence[Count], chosen: Sequence[float], costs: Costs) -> list[AtThreshold]:
    """Rows for round thresholds and for the chosen ones, from low to high."""
    scores = _scores(counts)
    rows = []
    for threshold in sorted({*TABLE, *chosen}):
        escapes, overkills = int(np.sum(scores["NG"] < threshold)), int(np.sum(scores["OK"] >= threshold))
        missed = [c for c in counts if c.label == "NG" and c.score < threshold]
        cost = sum(cost_of_escape(c, costs) for c in missed) + overkills
        rows.append(AtThreshold(threshold, escapes, overkills, cost, threshold in chosen))
    return rows


def draw_curves(counts: Sequence[Count], pixels: Pixels, threshold: float) -> list[Curve]:
    """Histogram, rates, ROC (where there are both labels) and reliability (where there are masks)."""
    curves = [_histogram(counts, threshold), _rates(counts, threshold)]
    if curve := roc(counts):
        curves.append(_draw_roc(curve, counts, threshold))
    return [*curves, *([_reliability(bins)] if (bins := pixels.reliability()) else [])]


def _scores(counts: Sequence[Count]) -> dict[str, NDArray[np.float64]]:
    return {label: np.array([c.score for c in counts if c.label == label]) for label in LABELS}


def _histogram(counts: Sequence[Count], threshold: float) -> Curve:
    figure, axes = _figure("score", "pictures")
    scores = _scores(counts)
    says = []
    for label, name, colour, hatch in (("OK", "good", GOOD, "//"), ("NG", "defective", BAD, "")):
        values = scores[label]
        axes.hist(
            values,
            bins=np.linspace(0, 1, 26).tolist(),
            alpha=0.65,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=f"{name} ({len(values)})",
        )
        if len(values):
            low, middle, high = np.quantile(values, (0, 0.5, 1))
            says.append(
                f"{len(values)} {name} pictures score {low:.3f} to {high:.3f}, half of them "
                f"up to {middle:.3f}"
            )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _mark(axes, threshold)
    return _curve(
        "Scores of the test pictures", figure, axes, f"{'; '.join(says)}. Threshold {threshold:.3f}."
    )


def _rates(counts: Sequence[Count], threshold: float) -> Curve:
    figure, axes = _figure("threshold", "rate")
    scores, thresholds = _scores(counts), np.linspace(0, 1, 501)
    says = []
    if len(scores["NG"]):
        axes.plot(thresholds, [np.mean(scores["NG"] < t) for t in thresholds], color=BAD, label="escape")
        says.append(f"escape rate {np.mean(scores['NG'] < threshold):.3f}")
    if len(scores["OK"]):
        axes.plot(
            thresholds,
            [np.mean(scores["OK"] >= t) for t in thresholds],
            color=GOOD,
            linestyle="-.",
            label="overkill",
        )
        says.append(f"overkill rate {np.mean(scores['OK'] >= threshold):.3f}")
    axes.set_ylim(-0.02, 1.02)
    _mark(axes, threshold)
    return _curve(
        "Escape and overkill at other thresholds",
        figure,
        axes,
        f"Escapes rise and overkills fall with the threshold. At the chosen {threshold:.3f}: "
        f"{', '.join(says)}.",
    )


def _draw_roc(curve: Roc, counts: Sequence[Count], threshold: float) -> Curve:
    figure, axes = _figure("overkill rate", "share of defective parts found")
    scores = _scores(counts)
    found, overkill = float(np.mean(scores["NG"] >= threshold)), float(np.mean(scores["OK"] >= threshold))
    axes.plot(curve.overkill, curve.found, color=GOOD, label="any threshold")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", label="guessing")
    axes.plot(
        overkill, found, "D", color=CHOSEN, markersize=8, clip_on=False, label=f"chosen {threshold:.3f}"
    )
    says = f"The chosen threshold finds {found:.3f} of the defective parts; its overkill is {overkill:.3f}."
    return _curve("Defective parts found against overkill (ROC)", figure, axes, says)


def _reliability(bins: Sequence[Bin]) -> Curve:
    figure, axes = _figure("probability that the network gives", "share of pixels that is defective")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", label="ideal")
    axes.plot([b.predicted for b in bins], [b.observed for b in bins], "o-", color=GOOD, label="test pixels")
    says = "; ".join(f"of pixels given {b.predicted:.2f}, {b.observed:.2f} are defective" for b in bins)
    return _curve("What a probability is worth (reliability)", figure, axes, f"{says}.")


def _figure(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _mark(axes: Axes, threshold: float) -> None:
    axes.axvline(threshold, color=CHOSEN, linestyle="--", linewidth=1.5, label=f"chosen {threshold:.3f}")


def _curve(title: str, figure: Figure, axes: Axes, says: str) -> Curve:
    axes.legend(frameon=False, fontsize="small")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return Curve(title, out.getvalue(), says)
