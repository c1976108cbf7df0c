"""One trained network, in every format to serve or to train on.

TensorFlow alone writes all formats. What JAX trained it exports in a process of its own, of model.keras:

    KERAS_BACKEND=tensorflow python -m defectline.components.train.formats.export MODEL
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from defectline.components.common.bundle import NETWORKS
from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.dataset import Split
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.engine import import_openvino
from defectline.components.common.installing import how_to_install, is_installed
from defectline.components.common.steps import say
from defectline.components.train.formats import parity
from defectline.components.train.formats.quantize import PICTURES, quantize
from defectline.components.train.weights import save_network

FILES = {**NETWORKS, "onnx": "onnx/model.onnx", "saved_model": "saved_model/1"}
"""All but openvino_int8 are in float32."""
PARITY_PICTURES = 16
"""Validation pictures on which every file is compared with the network."""


def export(
    network: keras.Model,
    folder: Path,
    splits: Mapping[str, Split],
    imaging: ImagingSettings,
    seed: int,
    int8: bool = True,
    classes: Sequence[str] = DEFAULT_CLASSES,
) -> None:
    """Write model.keras, the FILES of the network and parity.json below `folder`; INT8 only with `int8`.

    `seed` chooses the training pictures that INT8 is calibrated on, and the validation pictures on which
    every file is compared with the network. Raises BundleError where one in float32 answers differently;
    whether INT8 is good enough is for evaluate to say.
    """
    write_float32(network, folder, classes)
    say("train: comparing the files' answers with the network's")
    validation = splits["validation"]
    rows = np.random.default_rng(seed).permutation(validation.rows)[:PARITY_PICTURES]
    pictures = validation.images[rows]
    wanted = parity.ask_keras(network, pictures)

    def measure(name: str) -> parity.Parity:
        return parity.compare(parity.ask_file(folder / FILES[name], imaging, pictures, classes), wanted)

    found = {name: measure(name) for name in FILES if name != "openvino_int8"}
    for name, each in found.items():
        parity.check(FILES[name], each)
    if int8:
        say(f"train: quantizing to INT8 with {PICTURES} pictures at most")
        quantize(folder / FILES["openvino"], splits["train"], seed, folder / FILES["openvino_int8"])
        found["openvino_int8"] = measure("openvino_int8")
    for line in parity.table(found):
        say(f"train: {line}")
    content = {"pictures": len(pictures), "files": {name: each._asdict() for name, each in found.items()}}
    (folder / "parity.json").write_text(json.dumps(content, indent=2))


def write_float32(network: keras.Model, folder: Path, classes: Sequence[str] = DEFAULT_CLASSES) -> None:
    """Write model.keras and the files in float32 below `folder`.

    `network` must be in float32: files exported under mixed precision do not load. The exported files
    take any batch size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_network(network, folder / "model.keras", classes)
    if keras.backend.backend() == "tensorflow":
        _write_others(network, folder)
        return
    # Without a GPU, whose memory the process that trained still holds.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-m", __name__, str(folder)], env=environment, check=True)


def check_exporter() -> None:
    """Raises SettingsError where TensorFlow, which every export needs, is not installed."""
    if not is_installed("tensorflow"):
        raise SettingsError(
            "Without TensorFlow nothing can be exported.",
            got="no package tensorflow",
            expected="TensorFlow beside JAX, which trains",
            fix=how_to_install("train-jax"),
        )


def _write_others(network: keras.Model, folder: Path) -> None:
    """Make SavedModel, ONNX and OpenVINO files; the latter two from the first's function, and all from one
    trace: Keras' own export traces four times, which takes longer than all conversions."""
    openvino = import_openvino()
    import tensorflow as tf
    import tf2onnx

    for name in ("openvino", "onnx", "saved_model"):
        (folder / FILES[name]).parent.mkdir(parents=True, exist_ok=True)
    (taken,) = network.inputs
    inputs = [tf.TensorSpec((None, *taken.shape[1:]), tf.float32, name=taken.name)]

    @tf.function(input_signature=inputs, autograph=False)
    def serve(image: Any) -> Any:
        return network(image, training=False)

    module = tf.Module()
    module.kept = [variable.value for variable in network.variables]
    module.serve = serve
    saved = str(folder / FILES["saved_model"])
    tf.saved_model.save(module, saved, signatures=serve)
    say("train: converting the SavedModel to ONNX and OpenVINO")
    tf2onnx.convert.from_function(serve, inputs, output_path=str(folder / FILES["onnx"]))
    openvino.serialize(openvino.convert_model(saved), str(folder / FILES["openvino"]))


if __name__ == "__main__":
    trained = Path(sys.argv[1])
    _write_others(keras.models.load_model(trained / "model.keras", compile=False), trained)
