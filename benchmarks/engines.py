"""How long a picture takes in each exported format, and what INT8 saves.

    python benchmarks/engines.py --model store/models/defects/v…

Times the network alone, on noise, at batches of 1 and 8. The formats take turns --repeat times, and their
ratios are taken turn by turn: other work on the machine slows down all of them. Without --model an untrained
network of --size is exported first; latency does not depend on the weights. DNNL_MAX_CPU_ISA=AVX2 shows a
processor without the instructions for INT8 (AVX512_CORE_VNNI: one without AMX).
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.network import Network
from defectline.components.train.formats.export import FILES, export
from defectline.components.train.network import build_network

Ask = Callable[[np.ndarray], object]


def load(model: Path, imaging: ImagingSettings) -> dict[str, Ask]:
    """Of every format, a function that takes pictures uint8 (N, S, S, channels)."""
    tensorflow = tf.saved_model.load(str(model / FILES["saved_model"]))

    def ask_tensorflow(batch: np.ndarray) -> object:
        return tensorflow.serve(batch.astype(np.float32)).numpy()

    return {
        "OpenVINO": Network(model / FILES["openvino"], imaging).probabilities,
        "OpenVINO INT8": Network(model / FILES["openvino_int8"], imaging).probabilities,
        "ONNX Runtime": Network(model / FILES["onnx"], imaging, engine="onnxruntime").probabilities,
        "SavedModel on TensorFlow": ask_tensorflow,
    }


def export_untrained(folder: Path, imaging: ImagingSettings, noise: np.ndarray) -> None:
    split = Split(ConcatenatedArray([noise]), ConcatenatedArray([noise[..., 0]]), np.arange(len(noise)))
    splits = {"train": split, "validation": split}
    export(build_network(imaging.image_size, imaging.channels), folder, splits, imaging, seed=0)


def take_turns(formats: dict[str, Ask], batch: np.ndarray, repeat: int) -> dict[str, np.ndarray]:
    """Milliseconds a picture, one value a turn."""
    spent: dict[str, list[float]] = {name: [] for name in formats}
    for turn in range(-2, repeat):
        for name, ask in formats.items():
            start = time.perf_counter()
            ask(batch)
            if turn >= 0:  # the first two warm up
                spent[name].append((time.perf_counter() - start) * 1000 / len(batch))
    return {name: np.array(times) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of a bundle whose network was quantized")
    parser.add_argument("--size", type=int, default=224, help="side of the untrained network's input")
    parser.add_argument("--repeat", type=int, default=40)
    options = parser.parse_args()

    if options.model:
        content = json.loads((options.model / "bundle.json").read_text())
        imaging = ImagingSettings(**content["imaging"])
    else:
        imaging = ImagingSettings(image_size=options.size)
    shape = (8, imaging.image_size, imaging.image_size, imaging.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model or Path(temporary)
        if not options.model:
            export_untrained(model, imaging, noise)
        formats = load(model, imaging)
        print(f"{os.cpu_count()} processors, {imaging.image_size}×{imaging.image_size}×{imaging.channels}")
        print(f"{'ms a picture':26} {'batch':>5} {'median':>8} {'best':>8} {'of OpenVINO':>12}")
        for size in (1, len(noise)):
            spent = take_turns(formats, noise[:size], options.repeat)
            for name, times in spent.items():
                ratio = np.median(times / spent["OpenVINO"])
                print(f"{name:26} {size:5} {np.median(times):8.1f} {times.min():8.1f} {ratio:12.2f}")


if __name__ == "__main__":
    main()
