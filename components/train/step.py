"""The train step.

1. Feed the prepared arrays in an order that seed and epoch fix; augment on the device.
2. Fit in the precision that the machine is fastest in, and keep a checkpoint of each epoch in the store.
3. Stop early on the validation IoU, and keep the best weights.
4. Rebuild the network in float32, export it in every format, and compare the files' answers with its own.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from defectline.components.common.bundle import CROSS_FIT
from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.statistics import read_statistics
from defectline.components.common.steps import say, step
from defectline.components.common.storage import checksums, open_storage
from defectline.components.train.backend.devices import device_count, policy, replicate
from defectline.components.train.backend.distributed import leave, place
from defectline.components.train.cross_fitting import cross_fit
from defectline.components.train.formats.export import check_exporter, export
from defectline.components.train.learning import learn
from defectline.components.train.progress.checkpoints import Checkpoints, digest
from defectline.components.train.progress.history import (
    advise,
    best_epoch,
    history_page,
    plot_history,
)
from defectline.components.train.progress.tracking import Tracker, tracked
from defectline.components.train.settings import read_settings


def train(
    dataset: Path | Sequence[Path],
    model: Path,
    page: Path,
    settings: Mapping[str, Any],
    *,
    store: str = "",
    logs: Path | None = None,
    part: str = "",
) -> dict[str, float]:
    """Train on the prepared dataset, which is one folder or all its shards in any order; write the model's
    folder, and the HTML `page` of its history.

    `settings` are fields of TrainParameters. With a `store`, training goes on from the checkpoint of a run
    that was cut off; with `logs`, event files for TensorBoard are written there. Returns the values of the
    best epoch. The folder holds model.keras, openvino/, openvino_int8/, onnx/, saved_model/1/, parity.json,
    history.json, history.png, statistics.json, model.json and SHA256SUMS, which is written last. Of several
    processes that train together the first alone writes, but all need the dataset and the store. `part` says
    in words what it learns, where a run trains several networks.
    """
    with step("train", store, part=part) as report:
        chosen = read_settings(**settings)
        check_exporter()
        folders = [dataset] if isinstance(dataset, Path) else dataset
        prepared, splits = open_dataset(folders)
        precision, replicas = policy(chosen.precision), replicate(chosen.batch_size).number
        name = digest(prepared, chosen, precision, replicas)
        checkpoints = Checkpoints(open_storage(store), name) if store else None
        what = "tiles" if prepared.imaging.tile else "pictures"
        here, devices = place(), device_count()
        on = f", on {devices} {'devices' if here.processes > 1 else 'GPUs'}" if devices > 1 else ""
        count = len(splits["train"].rows)
        epochs = "1 epoch" if chosen.epochs == 1 else f"{chosen.epochs} epochs"
        say(f"train: {count} {what}, {epochs} at most, in {precision}{on}")
        if len(prepared.classes) > 1:
            say(f"train: classes {', '.join(prepared.classes)}")
        followed: AbstractContextManager[list[Tracker]] = nullcontext([])
        if here.first:
            followed = tracked(name[:12], chosen.model_dump(), logs)
        with followed as trackers:
            kept = open_storage(store) if store else None
            learned = learn(splits, prepared, chosen, precision, replicas, kept, checkpoints, trackers)
            network, history = learned.network, learned.history
        best = best_epoch(history)
        if not here.first:
            if chosen.cross_fit:
                cross_fit(model, splits, prepared, chosen, precision, replicas, kept)
            leave()
            report.summary = f"{len(history)} epochs, as the first of {here.processes} processes says"
            return best
        if not chosen.cross_fit:
            leave()
        model.mkdir(parents=True, exist_ok=True)
        (model / checksums.NAME).unlink(missing_ok=True)
        shutil.rmtree(model / CROSS_FIT, ignore_errors=True)
        say("train: exporting to Keras, SavedModel, ONNX and OpenVINO")
        export(network, model, splits, prepared.imaging, chosen.seed, chosen.quantize, prepared.classes)
        used = [checkpoints] if checkpoints else []
        if chosen.cross_fit:
            used += cross_fit(model, splits, prepared, chosen, precision, replicas, kept)
            leave()
        (model / "history.json").write_text(json.dumps(history))
        plot_history(history, model / "history.png", len(prepared.classes))
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(history_page((model / "history.png").read_bytes()))
        start = {"pretrained": learned.pretrained} if learned.pretrained else {}
        content = {
            "imaging": prepared.imaging.model_dump(),
            "classes": prepared.classes,
            "training": chosen.model_dump() | start,
            "snapshot": prepared.snapshot,
            "fingerprint": prepared.fingerprint,
            "supervision": prepared.supervision,
            "epochs_run": len(history),
            "advice": advise(history, prepared.supervision == "good_only", bool(learned.pretrained)),
            "precision": precision,
            "keras": keras.__version__,
            # A run that ends before it is judged goes on from these.
            "checkpoints": [each.name for each in used],
        }
        read_statistics(folders).write(model)
        (model / "model.json").write_text(json.dumps(content, indent=2))
        checksums.seal(model)
        if content["advice"]:
            say(f"train: WARNING: {content['advice']}")
        iou = f"IoU {best['val_iou']:.2f}, " if "val_iou" in best else ""
        report.summary = (
            f"{len(history)} epochs, best at {best['epoch']}: validation {iou}loss {best['val_loss']:.3f}"
        )
        return best
