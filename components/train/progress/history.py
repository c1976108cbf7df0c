"""The picture of a training run."""

import base64
from pathlib import Path

from matplotlib.figure import Figure


def best_epoch(history: list[dict]) -> dict:
    """The epoch whose weights are kept: the first row with the highest validation IoU or, where no defective
    validation picture has a mask, the lowest validation loss."""
    if all("val_iou" in row for row in history):
        return max(history, key=lambda row: row["val_iou"])
    return min(history, key=lambda row: row["val_loss"])


BEGUN = 0.01
"""Least validation IoU of a network that finds something of the defects."""


def advise(history: list[dict], synthetic: bool = False, pretrained: bool = False) -> str:
    """What helps a network that did not begin to learn in these epochs; "" where it did, or no validation IoU
    tells. `synthetic` says that they are of synthetic defects, `pretrained` that such were learned before."""
    if any(row.get("val_iou", 1.0) >= BEGUN for row in history):
        return ""
    if synthetic:
        ways = ["more steps (training=pretraining_steps=…)", "more good images"]
    else:
        ways = [
            "more steps (epochs, or a smaller batch_size)",
            *([] if pretrained else ["pretraining=always"]),
        ]
    return (
        f"The network did not begin to learn: validation IoU below {BEGUN} in each of {len(history)} epochs. "
        f"Try {', '.join(ways)}, or weights to start from (init_from, encoder_weights)."
    )


def plot_history(history: list[dict], path: Path, classes: int = 1) -> None:
    """Loss and IoU over the epochs, for training and validation, as a PNG; of several `classes` the mean."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = "Loss", "Defect IoU" if classes == 1 else "Mean IoU of the classes"
    for axis, key, title in zip(axes, ("loss", "iou"), titles, strict=True):
        for name, label, colour in (
            (key, "train (augmented)", "#8a8a8a"),
            (f"val_{key}", "validation", "#0b5fa5"),
        ):
            # There is no IoU where no defective picture has a mask.
            if all(name in row for row in history):
                axis.plot(epochs, [row[name] for row in history], label=label, color=colour)
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
