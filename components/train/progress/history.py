"""The picture of a training run."""

import base64
from pathlib import Path

from matplotlib.figure import Figure


def best_epoch(history: list[dict]) -> dict:
    """The first row with the highest validation IoU: the epoch whose weights are kept."""
    return max(history, key=lambda row: row["val_iou"])


def plot_history(history: list[dict], path: Path, classes: int = 1) -> None:
    """Loss and IoU over the epochs, for training and validation, as a PNG; of several `classes` the mean."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = "Loss", "Defect IoU" if classes == 1 else "Mean IoU of the classes"
    for axis, key, title in zip(axes, ("loss", "iou"), titles, strict=True):
        axis.plot(epochs, [row[key] for row in history], label="train (augmented)", color="#8a8a8a")
        axis.plot(epochs, [row[f"val_{key}"] for row in history], label="validation", color="#0b5fa5")
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[1].set_ylim(0, 1)
    best = best_epoch(history)["epoch"]
    for axis in axes:
        axis.axvline(best, color="#c0392b", linewidth=0.8, linestyle="--")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def history_page(png: bytes) -> str:
    """The plot as a self-contained HTML page."""
    data = base64.b64encode(png).decode()
    return f'<!doctype html><title>Training</title><img alt="history" src="data:image/png;base64,{data}">'
