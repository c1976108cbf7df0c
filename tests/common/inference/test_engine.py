"""Networks on the engine for processors."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from networks import write_network

from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.engine import (
    ENGINES,
    SHARED_AFTER,
    OpenVino,
    import_openvino,
)
from defectline.components.common.inference.network import Network

SIZE = 32
PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), np.uint8)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    write_network(tmp_path / "model.xml", SIZE, 1, cut=40.0)
    return tmp_path / "model.xml"


def test_the_answer_is_the_probability_of_a_defect_alone(network: Path):
    engine = OpenVino(network)
    assert (engine.takes, engine.gives) == ([SIZE, SIZE, 1], [SIZE, SIZE, 2])
    found = engine(PICTURES).probability
    assert (found.shape, found.dtype) == ((3, SIZE, SIZE), np.float32)
    whole = import_openvino().Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    both = whole(PICTURES.astype(np.float32))[0]
    np.testing.assert_allclose(found, both[..., 1], atol=1e-6)
    assert found.std() > 0.01


def test_pictures_are_answered_alike_alone_and_together(network: Path):
    engine = OpenVino(network)
    together = engine(PICTURES)
    for each in range(2):
        alone = np.concatenate([engine(PICTURES[n : n + 1])[each] for n in range(3)])
        np.testing.assert_array_equal(together[each], alone)


def test_pictures_that_meet_and_the_next_few_share_the_threads(network: Path, monkeypatch):
    engine = OpenVino(network, threads=2)
    ran, meeting, together = list[str](), [True], Barrier(3, timeout=60)

    def run_on(name, compiled, picture):
        ran.append(name)
        if meeting:
            together.wait()
        return compiled(picture)

    alone, shared = engine._alone, engine._shared
    monkeypatch.setattr(engine, "_alone", lambda picture: run_on("alone", alone, picture))
    monkeypatch.setattr(engine, "_shared", lambda picture: run_on("shared", shared, picture))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(engine, [PICTURES[:1]] * 3))
    assert sorted(ran) == ["alone", "shared", "shared"]

    ran.clear()
    meeting.clear()
    for _ in range(SHARED_AFTER + 2):
        engine(PICTURES[:1])
    assert ran == ["shared"] * (SHARED_AFTER - 1) + ["alone"] * 3


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
    found = OpenVino(tmp_path / "model.xml")(PICTURES)
    np.testing.assert_allclose(found.probability, wanted, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("channels_first", [False, True])
def test_features_are_what_is_seen_at_the_lowest_resolution(tmp_path: Path, classes, channels_first):
    """A network that looks at means over eighths of the picture's side, and again at the whole of it."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    picture = ops.parameter([-1, SIZE, SIZE, 1], np.float32)
    axes = [2, 3] if channels_first else [1, 2]
    seen = ops.transpose(picture, [0, 3, 1, 2]) if channels_first else picture
    parts = [-1, 1, 8, 4, 8, 4] if channels_first else [-1, 8, 4, 8, 4, 1]
    flat = ops.reshape(seen, parts, special_zero=False)
    low = ops.reduce_mean(flat, [3, 5] if channels_first else [2, 4], keep_dims=False)
    low = ops.concat([low, ops.multiply(low, np.float32(2))], axis=1 if channels_first else 3)
    back = ops.interpolate(low, [SIZE, SIZE], "nearest", "sizes", axes=axes)
    last = ops.transpose(back, [0, 2, 3, 1]) if channels_first else back
    logits = ops.concat([ops.slice(last, [0], [1], [1], [3])] * (classes - 1) + [picture], axis=-1)
    model = openvino.Model([ops.softmax(logits, axis=-1)], [picture], "seen")
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    found = OpenVino(tmp_path / "model.xml")(PICTURES)
    means = PICTURES.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.features, np.stack([means, 2 * means], axis=1), rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_is_not_a_network_is_named(tmp_path: Path, engine):
    file = tmp_path / ("model.xml" if engine == "openvino" else "model.onnx")
    file.write_text("not a network")
    with pytest.raises(BundleError, match=rf"{file.name} cannot be loaded"):
        Network(file, ImagingSettings(image_size=SIZE), engine=engine)
