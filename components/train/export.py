"""One trained network, in every format that somebody may want to serve or train on."""

from pathlib import Path

import keras

from defectline.components.common.engine import import_openvino


def export(network: keras.Model, folder: Path) -> None:
    """Write model.keras, saved_model/1/, onnx/model.onnx and openvino/model.xml below `folder`.

    `network` must be in float32: files exported under mixed precision do not load. The exported files
    take any batch size.
    """
    import_openvino()
    for name in ("saved_model", "onnx", "openvino"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    network.save(folder / "model.keras")
    network.export(str(folder / "saved_model/1"), format="tf_saved_model", verbose=False)
    network.export(str(folder / "onnx/model.onnx"), format="onnx", verbose=False)
    network.export(str(folder / "openvino/model.xml"), format="openvino", verbose=False)
