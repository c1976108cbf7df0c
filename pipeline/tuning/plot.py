"""The plot of a tune."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from defectline.pipeline.tuning.options import Tuned

INK = "#123456"
"""Stands for the colour of the page's text in the plot."""


def plot(tuned: Tuned) -> str:
    """Each trial's figure with its spread over the folds, and the best so far, as SVG. Pure."""
    objective, trials = tuned.study.objective, tuned.trials
    better = min if objective == "cost" else max
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": tuned.study.id}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        best_x: list[int] = []
        best_y: list[float] = []
        for trial in trials:
            value = getattr(trial, objective)
            if value is None:
                continue
            whole = trial.state == "complete"
            axes.errorbar(
                trial.number,
                value,
                trial.spread(objective) or 0,
                fmt="o" if whole else "x",
                color="#2f8fd0" if whole else "#d0702f",
                elinewidth=0.8,
                markersize=5,
            )
            if whole:
                best_x.append(trial.number)
                best_y.append(better([value, *best_y[-1:]]))
        axes.step(best_x, best_y, where="post", color="#3fa66b", linewidth=1.2, label="best so far")
        axes.set(xlabel="trial", ylabel="cost of a picture" if objective == "cost" else "defect IoU")
        # Also of one trial alone.
        axes.set_xlim(-0.5, max(one.number for one in trials) + 0.5 if trials else 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, labelcolor=INK)
        axes.grid(alpha=0.25)
        axes.tick_params(colors=INK)
        for side in (axes.xaxis.label, axes.yaxis.label):
            side.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue().replace(INK, "currentColor")
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r"<svg ", '<svg role="img" aria-label="figures of the trials" ', drawn, count=1)
