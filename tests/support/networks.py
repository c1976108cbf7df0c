"""A network made by hand, and pictures that it can judge: evaluate, deploy and serve run for real with
them, in seconds and without training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.bundle import Bundle, read_bundle
from defectline.components.common.inference.engine import import_openvino
from defectline.components.common.snapshot import Pair, read_pairs, write_index
from defectline.components.common.storage import checksums, open_storage
from defectline.components.evaluate.step import Result, evaluate
from defectline.components.ingest.step import ingest
from defectline.components.train.progress.history import plot_history

SIZE = 64
LIMITS = {"min_iou": 0.5, "max_escape": 0.1, "max_overkill": 0.1}


def draw(
    label: str, rng: np.random.Generator, size: int = SIZE, light: int = 250
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A grey plate with noise (90 to 120), with one scratch as bright as `light` where it is NG; and its
    mask 0/255. Both uint8 (size, size)."""
    image = rng.integers(90, 121, (size, size), np.uint8)
    mask = np.zeros((size, size), np.uint8)
    if label == "NG":
        x, y = (int(v) for v in rng.integers(size // 8, size // 2, 2))
        cv2.line(mask, (x, y), (x + size // 4, y + int(rng.integers(size // 4))), 255, 3)
        image[mask > 0] = light
    return image, mask


def write_source(folder: Path, pairs: int = 40, seed: int = 0, size: int = SIZE) -> Path:
    """`pairs` pictures in all, half of them NG, laid out as a source; returns the folder."""
    rng = np.random.default_rng(seed)
    for label in ("OK", "NG"):
        (folder / label).mkdir(parents=True)
        (folder / f"{label}_MSK").mkdir()
        for number in range(pairs // 2):
            image, mask = draw(label, rng, size)
            Image.fromarray(image).save(folder / label / f"{number:03d}.png")
            Image.fromarray(mask).save(folder / f"{label}_MSK" / f"{number:03d}.png")
    return folder


def write_model(
    folder: Path,
    size: int = SIZE,
    channels: int = 1,
    cut: float = 40.0,
    int8_cut: float | None = None,
    tile: bool = False,
) -> Path:
    """A sealed model folder such as train writes, with a network that calls a defect what is `cut` grey
    levels brighter than its surroundings of 15×15 px; returns the folder.

    Only the OpenVINO file is real; the other formats are stand-ins. `cut=nan` makes a network that gives
    NaN, as after a training that diverged; with 1000 it finds nothing. With `int8_cut` there is a network in
    INT8 too.
    """
    for name in ("openvino", "onnx", "saved_model/1"):
        (folder / name).mkdir(parents=True)
    write_network(folder / "openvino/model.xml", size, channels, cut)
    if int8_cut is not None:
        (folder / "openvino_int8").mkdir()
        write_network(folder / "openvino_int8/model.xml", size, channels, int8_cut, int8=True)
    for name in ("model.keras", "onnx/model.onnx", "saved_model/1/saved_model.pb"):
        (folder / name).write_text(f"stand-in for {name}\n")
    history = [
        {"epoch": n, "loss": 1 / n, "val_loss": 1.1 / n, "iou": 1 - 1 / n, "val_iou": 0.9 - 0.9 / n}
        for n in range(1, 6)
    ]
    (folder / "history.json").write_text(json.dumps(history))
    plot_history(history, folder / "history.png")
    content = {
        "imaging": {"image_size": size, "channels": channels, "enhance": False, "tile": tile},
        "training": {"epochs": 5, "seed": 0, "encoder_weights": "none"},
        "supervision": "masks",
        "epochs_run": 5,
    }
    (folder / "model.json").write_text(json.dumps(content))
    checksums.seal(folder)
    return folder


def write_network(
    xml: Path, size: int, channels: int, cut: float, defects: int = 1, int8: bool = False
) -> None:
    """float32 (N, size, size, channels) from 0 to 255 in; float32 (N, size, size, 1 + defects) out: for one
    class of defects, two numbers that sum to 1."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    picture = ops.parameter([-1, size, size, channels], np.float32, name="picture")
    grey = ops.transpose(ops.reduce_mean(picture, [3], keep_dims=True), [0, 3, 1, 2])
    place = {"strides": [1, 1], "pads_begin": [7, 7], "pads_end": [7, 7]}
    if int8:
        # Values and kernel pass through the steps of 8 bits, so OpenVINO computes the convolution in INT8.
        steps = ops.fake_quantize(grey, *map(np.float32, (0, 255, 0, 255)), 256)
        kernel = ops.fake_quantize(np.ones((1, 1, 15, 15), np.float32), *map(np.float32, (-1, 1, -1, 1)), 255)
        pixels = cv2.boxFilter(
            np.ones((size, size), np.float32), -1, (15, 15), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        around = ops.divide(ops.convolution(steps, kernel, dilations=[1, 1], **place), pixels)
    else:
        around = ops.avg_pool(grey, kernel_shape=[15, 15], exclude_pad=True, **place)
    brighter = ops.subtract(grey, around)
    defect = ops.sigmoid(ops.multiply(ops.subtract(brighter, np.float32(cut)), np.float32(0.1)))
    both = ops.concat([ops.subtract(np.float32(1), defect)] + [defect] * defects, axis=1)
    answer = ops.transpose(both, [0, 2, 3, 1])
    openvino.save_model(openvino.Model([answer], [picture], "by-hand"), xml, compress_to_fp16=False)


class Judged(NamedTuple):
    """What one evaluate left behind."""

    store: Path
    source: Path
    snapshot: str
    model: Path
    folder: Path
    """The sealed bundle."""
    bundle: Bundle
    report: Path
    result: Result


def judge_model(
    folder: Path,
    cut: float = 40.0,
    pairs: int = 40,
    run: str = "one",
    int8_cut: float | None = None,
    tile: bool = False,
) -> Judged:
    """Below the new `folder`: a source, its snapshot in a store, a model by hand and its sealed bundle.

    With `tile` the pictures are larger than the network's input in both directions.
    """
    store, source = folder / "store", write_source(folder / "source", pairs, size=150 if tile else SIZE)
    snapshot = ingest(str(source), str(store), run)
    model = write_model(folder / "model", cut=cut, int8_cut=int8_cut, tile=tile)
    bundle, report = folder / "bundle", folder / "report.html"
    result = evaluate(str(store), snapshot, model, bundle, report, LIMITS, run)
    return Judged(store, source, snapshot, model, bundle, read_bundle(bundle), report, result)


def run_evaluate(
    judged: Judged,
    folder: Path,
    run: str,
    cut: float = 40.0,
    champion: str = "",
    snapshot: str = "",
    **settings: float | str,
) -> tuple[Bundle, Result]:
    """Judge another model on the same snapshot, or another; returns its bundle and the result."""
    folder.mkdir(exist_ok=True)
    bundle = folder / "bundle"
    result = evaluate(
        str(judged.store),
        snapshot or judged.snapshot,
        write_model(folder / "model", cut=cut),
        bundle,
        folder / "report.html",
        {**LIMITS, **settings},
        run,
        champion=champion,
        settings_key="the settings",
    )
    return read_bundle(bundle), result


def pairs_of_test_part(judged: Judged) -> list[Pair]:
    return [p for p in read_pairs(open_storage(str(judged.store)), judged.snapshot) if p.split == "test"]


def resplit(judged: Judged, name: str, split_of: Callable[[Pair], str]) -> str:
    """Another snapshot of the same pictures, with other splits."""
    storage = open_storage(str(judged.store))
    pairs = [p._replace(split=split_of(p)) for p in read_pairs(storage, judged.snapshot)]
    shutil.copytree(judged.store / "snapshots" / judged.snapshot, judged.store / "snapshots" / name)
    write_index(judged.store / "snapshots" / name / "index.parquet", pairs)
    return name


def gate_rows(judged: Judged, run: str) -> dict[str, dict]:
    rows = json.loads((judged.store / "runs" / run / "gate.json").read_text())
    return {row["name"]: row for row in rows}
