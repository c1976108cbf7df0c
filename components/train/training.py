"""The train step.

1. Feed the prepared arrays in an order that the seed fixes; augment on the device.
2. Fit with AdamW under a cosine schedule, in mixed precision where the processor has it.
3. Stop early on the validation IoU, and keep the best weights.
4. Rebuild the network in float32, export it in every format, and compare the files' answers with its own.
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from defectline.components.common import checksums
from defectline.components.common.dataset import Split, open_dataset
from defectline.components.common.imaging import ImagingSettings
from defectline.components.common.settings import checked
from defectline.components.common.statistics import read_statistics
from defectline.components.common.steps import say, step
from defectline.components.train.export import export
from defectline.components.train.fitting import Trainer, WarmCosine
from defectline.components.train.history import best_epoch, history_page, plot_history
from defectline.components.train.network import build_network
from defectline.components.train.settings import TrainSettings


class Feed(keras.utils.PyDataset):
    """Batches of (images uint8 (N, S, S, C), masks uint8 (N, S, S)) of one split.

    With a seed the order changes every epoch, and the last batch is filled up from the epoch's first
    pictures: batches of one size compile once and keep batch statistics honest.
    """

    def __init__(self, split: Split, batch_size: int, seed: int | None = None):
        super().__init__()
        self.split, self.batch_size = split, batch_size
        self.random = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.split.rows) // self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.random is not None:
            rows = np.resize(np.concatenate([rows, self.order]), self.batch_size)
        return ((self.split.images[rows], self.split.masks[rows]),)

    def on_epoch_end(self):
        self.order = self.split.rows if self.random is None else self.random.permutation(self.split.rows)


class Progress(keras.callbacks.Callback):
    """Says how training goes every few seconds, and keeps the history."""

    def __init__(self, epochs: int, every_s: float = 10.0):
        super().__init__()
        self.epochs, self.every_s = epochs, every_s
        self.history: list[dict[str, float]] = []
        self.start = self.last = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        values = {name: round(float(value), 5) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **values})
        now = time.monotonic()
        if now - self.last >= self.every_s or epoch == 0:
            self.last = now
            left = (now - self.start) / (epoch + 1) * (self.epochs - epoch - 1)
            say(
                f"train: epoch {epoch + 1} of {self.epochs}, loss {values['loss']:.3f}, "
                f"validation loss {values['val_loss']:.3f}, IoU {values['val_iou']:.2f}, {left:.0f} s left"
            )


def precision() -> str:
    """The fastest policy that this machine computes natively: mixed_float16 on GPUs, mixed_bfloat16 on
    processors that have it, else float32."""
    if keras.backend.backend() == "jax":
        import jax

        gpu = jax.default_backend() == "gpu"
    else:
        import tensorflow as tf

        gpu = bool(tf.config.list_physical_devices("GPU"))
    if gpu:
        return "mixed_float16"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if platform.system() == "Linux" and cpuinfo.exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def fit(
    splits: dict[str, Split], imaging: ImagingSettings, settings: TrainSettings
) -> tuple[keras.Model, list[dict]]:
    """Train a network; returns it with its best weights, in float32, and one row of values an epoch."""
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(precision())
    network = build_network(
        imaging.image_size, imaging.channels, settings.batch_norm_momentum, settings.encoder_weights
    )
    feed = Feed(splits["train"], settings.batch_size, settings.seed)
    trainer = Trainer(network, settings.seed)
    schedule = WarmCosine(settings.learning_rate, len(feed) * settings.epochs)
    trainer.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay),
        jit_compile=keras.backend.backend() == "jax",
    )
    progress = Progress(settings.epochs)
    stop = keras.callbacks.EarlyStopping(
        monitor="val_iou", mode="max", patience=settings.patience, restore_best_weights=True
    )
    trainer.fit(
        feed,
        validation_data=Feed(splits["validation"], settings.batch_size),
        epochs=settings.epochs,
        callbacks=[progress, stop],
        verbose=0,
    )
    keras.config.set_dtype_policy("float32")
    plain = build_network(imaging.image_size, imaging.channels, settings.batch_norm_momentum)
    plain.set_weights(network.get_weights())
    return plain, progress.history


def train(
    dataset: Path | Sequence[Path], model: Path, page: Path, fields: Mapping[str, object]
) -> dict[str, float]:
    """Train on the prepared dataset, which is one folder or all its shards in any order; write the model's
    folder, and the HTML `page` of its history.

    `fields` are those of TrainSettings. Returns the values of the best epoch. The folder holds model.keras,
    openvino/, openvino_int8/, onnx/, saved_model/1/, parity.json, history.json, history.png, statistics.json,
    model.json and SHA256SUMS.
    """
    with step("train") as report:
        settings = checked(TrainSettings, **fields)
        folders = [dataset] if isinstance(dataset, Path) else dataset
        prepared, splits = open_dataset(folders)
        what = "tiles" if prepared.imaging.tile else "pictures"
        count = len(splits["train"].rows)
        say(f"train: {count} {what}, {settings.epochs} epochs at most, in {precision()}")
        network, history = fit(splits, prepared.imaging, settings)
        model.mkdir(parents=True, exist_ok=True)
        say("train: exporting to Keras, SavedModel, ONNX and OpenVINO")
        export(network, model, splits, prepared.imaging, settings.seed, settings.quantize)
        (model / "history.json").write_text(json.dumps(history))
        plot_history(history, model / "history.png")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(history_page((model / "history.png").read_bytes()))
        content = {
            "imaging": prepared.imaging.model_dump(),
            "training": settings.model_dump(),
            "snapshot": prepared.snapshot,
            "fingerprint": prepared.fingerprint,
            "epochs_run": len(history),
            "precision": precision(),
            "keras": keras.__version__,
        }
        read_statistics(folders).write(model)
        (model / "model.json").write_text(json.dumps(content, indent=2))
        checksums.seal(model)
        best = best_epoch(history)
        report.did = (
            f"{len(history)} epochs, best at {best['epoch']}: validation IoU {best['val_iou']:.2f}, "
            f"loss {best['val_loss']:.3f}"
        )
        return best
