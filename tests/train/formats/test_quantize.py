"""INT8: what is computed in it, on what it is calibrated, and that nothing is sent anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.engine import import_openvino
from defectline.components.common.inference.network import Network
from defectline.components.train.formats.quantize import PICTURES, quantize

SIZE = 32
IMAGING = ImagingSettings(image_size=SIZE)


def write_small(xml: Path) -> None:
    """Three convolutions, float32 (N, SIZE, SIZE, 1) → (N, SIZE, SIZE, 2), which sum to 1.

    The second has weights of 1 only, and adds up 8×9 values: with pictures of 255, more than 16 bits hold.
    """
    openvino = import_openvino()
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    kernels = [rng.random((8, 1, 3, 3)), np.ones((8, 8, 3, 3)), rng.normal(0, 0.01, (2, 8, 3, 3))]
    picture = ops.parameter([-1, SIZE, SIZE, 1], np.float32, name="picture")
    x = ops.divide(ops.transpose(picture, [0, 3, 1, 2]), np.float32(255))
    for kernel in kernels:
        bias = np.zeros((1, len(kernel), 1, 1), np.float32)
        x = ops.convolution(x, kernel.astype(np.float32), [1, 1], [1, 1], [1, 1], [1, 1])
        x = ops.add(x, bias) if kernel is kernels[-1] else ops.relu(ops.add(x, bias))
    answer = ops.softmax(ops.transpose(x, [0, 2, 3, 1]), 3)
    openvino.save_model(openvino.Model([answer], [picture], "small"), xml, compress_to_fp16=False)


def _split(images: np.ndarray, rows: list[int]) -> Split:
    return Split(ConcatenatedArray([images]), ConcatenatedArray([images[..., 0]]), np.array(rows))


@pytest.fixture(scope="module")
def xml(tmp_path_factory) -> Path:
    xml = tmp_path_factory.mktemp("float32") / "model.xml"
    write_small(xml)
    return xml


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    images = np.random.default_rng(1).integers(0, 256, (PICTURES + 8, SIZE, SIZE, 1), np.uint8)
    images[::4] = 255
    return images


@pytest.fixture(scope="module")
def int8(xml, images, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "new/model.xml"
    quantize(xml, _split(images, list(range(PICTURES + 4))), 0, target)
    return target


def _in_int8(network: Network, layers: str) -> list[bool]:
    """Which of the layers of one type the compiled network computes in INT8."""
    steps = [s.get_rt_info() for s in network._engine._alone.compiled.get_runtime_model().get_ordered_ops()]
    return [s["runtimePrecision"].value in ("u8", "i8") for s in steps if s["layerType"].value == layers]


def test_all_convolutions_but_the_last_are_computed_in_int8(xml, int8, images):
    network = Network(int8, IMAGING)
    assert _in_int8(network, "Convolution") == [True, True, False]
    apart = np.abs(network.probabilities(images) - Network(xml, IMAGING).probabilities(images))
    assert 0 < apart.max() < 0.02


def test_transposed_convolutions_of_signed_values_are_computed_in_int8(images, tmp_path):
    """Such as the decoder's first, behind the encoder's last, which has no ReLU."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    first, up, last = (
        rng.normal(0, 0.2, shape).astype(np.float32) for shape in ((8, 1, 3, 3), (8, 8, 2, 2), (2, 8, 3, 3))
    )
    picture = ops.parameter([-1, SIZE, SIZE, 1], np.float32, name="picture")
    x = ops.divide(ops.transpose(picture, [0, 3, 1, 2]), np.float32(255))
    x = ops.convolution(x, first, [2, 2], [1, 1], [1, 1], [1, 1])
    x = ops.relu(ops.convolution_backprop_data(x, up, [2, 2], pads_begin=[0, 0], pads_end=[0, 0]))
    x = ops.convolution(x, last, [1, 1], [1, 1], [1, 1], [1, 1])
    float32 = openvino.Model([ops.softmax(ops.transpose(x, [0, 2, 3, 1]), 3)], [picture], "signed")
    openvino.save_model(float32, tmp_path / "model.xml", compress_to_fp16=False)
    quantize(tmp_path / "model.xml", _split(images, list(range(len(images)))), 0, tmp_path / "int8.xml")

    network = Network(tmp_path / "int8.xml", IMAGING)
    assert _in_int8(network, "Deconvolution") == [True]
    apart = network.probabilities(images) - Network(tmp_path / "model.xml", IMAGING).probabilities(images)
    assert np.abs(apart).max() < 0.05


def test_the_same_pictures_give_the_same_weights_and_ranges(xml, int8, images, tmp_path):
    """Only pictures of the split count: the others are black here."""
    other = images.copy()
    other[PICTURES + 4 :] = 0
    quantize(xml, _split(other, list(range(PICTURES + 4))), 0, tmp_path / "model.xml")
    assert (tmp_path / "model.bin").read_bytes() == int8.with_suffix(".bin").read_bytes()


def test_the_seed_chooses_the_pictures(xml, images, tmp_path):
    """One picture is much brighter than the others: whether it is among them shows."""
    dark = np.concatenate([images, images]) // 8
    dark[3] = 255
    rows = np.arange(2 * PICTURES)
    found = set()
    for seed in range(40):
        taken = 3 in np.random.default_rng(seed).permutation(rows)[:PICTURES]
        if taken not in found:
            quantize(xml, _split(dark, list(rows)), seed, tmp_path / f"{taken}/model.xml")
            found.add(taken)
    assert found == {True, False}
    assert (tmp_path / "True/model.bin").read_bytes() != (tmp_path / "False/model.bin").read_bytes()


ANSWER = """
import sys
from pathlib import Path
import numpy as np
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.network import Network
network = Network(Path(sys.argv[1]), ImagingSettings(image_size=32))
np.save(sys.argv[2], network.probabilities(np.load(sys.argv[3])))
"""


def test_processors_without_vnni_give_the_same_answers(int8, images, tmp_path):
    """OpenVINO can be told to do without newer instructions; where there are none, nothing changes."""
    np.save(tmp_path / "images.npy", images)
    answers = []
    for instructions in ("DEFAULT", "AVX2"):
        file = tmp_path / f"{instructions}.npy"
        subprocess.run(
            [sys.executable, "-c", ANSWER, int8, file, tmp_path / "images.npy"],
            env={**os.environ, "DNNL_MAX_CPU_ISA": instructions},
            check=True,
        )
        answers.append(np.load(file))
    np.testing.assert_allclose(*answers, atol=1e-3)


SILENT = """
import socket, sys, time
from pathlib import Path
import numpy as np
tried = []
def note(*arguments, **options):
    tried.append(arguments)
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = note
from defectline.components.common.dataset import Split, ConcatenatedArray
from defectline.components.train.formats.quantize import quantize
images = np.zeros((4, 32, 32, 1), np.uint8)
images[:, 8:16] = 200
split = Split(ConcatenatedArray([images]), ConcatenatedArray([images[..., 0]]), np.arange(4))
quantize(Path(sys.argv[1]), split, 0, Path(sys.argv[2]))
print(tried, sys.modules["openvino_telemetry"], "torch" in sys.modules)
"""


def test_nothing_is_sent_and_nothing_is_left_at_home(xml, tmp_path):
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SILENT, xml, tmp_path / "model.xml"],
        env={**os.environ, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] None False"
    assert list((tmp_path / "home").iterdir()) == []
