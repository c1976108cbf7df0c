"""Networks on the engine for processors."""

from pathlib import Path

import numpy as np
import pytest
from networks import write_network

from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.engine import ENGINES, OpenVino, import_openvino
from defectline.components.common.inference.inspection import Network

SIZE = 32
PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), np.uint8)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    write_network(tmp_path / "model.xml", SIZE, 1, cut=40.0)
    return tmp_path / "model.xml"


def test_the_answer_is_the_probability_of_a_defect_alone(network: Path):
    engine = OpenVino(network)
    assert (engine.takes, engine.gives) == ([SIZE, SIZE, 1], [SIZE, SIZE, 2])
    found = engine(PICTURES)
    assert (found.shape, found.dtype) == ((3, SIZE, SIZE), np.float32)
    whole = import_openvino().Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    both = whole(PICTURES.astype(np.float32))[0]
    np.testing.assert_allclose(found, both[..., 1], atol=1e-6)
    assert found.std() > 0.01


def test_pictures_are_answered_alike_alone_and_together(network: Path):
    engine = OpenVino(network)
    alone = np.concatenate([engine(PICTURES[n : n + 1]) for n in range(3)])
    np.testing.assert_array_equal(engine(PICTURES), alone)


def test_a_softmax_over_two_classes_gives_the_same_as_the_function_in_its_place(tmp_path: Path):
    openvino = import_openvino()
    from openvino import opset13 as ops

    picture = ops.parameter([-1, SIZE, SIZE, 1], np.float32)
    scaled = ops.divide(picture, np.float32(100))
    logits = ops.concat([ops.negative(scaled), ops.subtract(scaled, np.float32(1))], axis=-1)
    model = openvino.Model([ops.softmax(logits, axis=-1)], [picture], "softmax")
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    x = PICTURES[..., 0].astype(np.float64) / 100
    wanted = 1 / (1 + np.exp(-x - (x - 1)))
    np.testing.assert_allclose(OpenVino(tmp_path / "model.xml")(PICTURES), wanted, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_is_not_a_network_is_named(tmp_path: Path, engine):
    file = tmp_path / ("model.xml" if engine == "openvino" else "model.onnx")
    file.write_text("not a network")
    with pytest.raises(BundleError, match=rf"{file.name} cannot be loaded"):
        Network(file, ImagingSettings(image_size=SIZE), engine=engine)
