"""Every exported file answers as the network that was trained, or nothing is sealed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from defectline.components.common.bundle import GPU_NETWORK, NETWORKS
from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.errors import BundleError
from defectline.components.common.imaging import ImagingSettings
from defectline.components.common.inspection import Network
from defectline.components.train import export as exporting
from defectline.components.train.network import build_network
from defectline.components.train.parity import TOLERANCE, Parity, check, compare, table

SIZE = 32
IMAGING = ImagingSettings(image_size=SIZE)

# Comparing


def _probabilities(*squares: tuple[int, float]) -> np.ndarray:
    """Pictures of 16×16, each with a square of one side and probability on 0.2."""
    pictures = np.full((len(squares), 16, 16), 0.2, np.float32)
    for picture, (side, value) in zip(pictures, squares, strict=True):
        picture[:side, :side] = value
    return pictures


def test_equal_answers():
    same = _probabilities((4, 0.9), (0, 0))
    assert compare(same, same) == Parity(largest=0, mean=0, pixels=0, verdicts=0)


def test_other_answers_are_counted():
    """Sixteen pixels change sides, and a verdict with them; four others are too few for a verdict."""
    found = compare(_probabilities((4, 0.9), (2, 0.6), (4, 0.6)), _probabilities((4, 0.4), (0, 0), (4, 0.9)))
    assert found.largest == pytest.approx(0.5)
    assert found.mean == pytest.approx((16 * 0.5 + 4 * 0.4 + 16 * 0.3) / (3 * 256))
    assert found.pixels == pytest.approx(20 / (3 * 256))
    assert found.verdicts == 1


def test_a_float32_file_must_be_within_the_tolerance():
    check("onnx/model.onnx", Parity(TOLERANCE, 0, 0, 0))
    for largest in (2 * TOLERANCE, float("nan")):
        with pytest.raises(BundleError, match=r"onnx/model\.onnx does not answer as the network") as caught:
            check("onnx/model.onnx", Parity(largest, 0, 0, 1))
        assert "1 other verdicts" in caught.value.got


def test_the_table_has_a_row_a_file():
    lines = table({"openvino": Parity(2e-6, 1e-9, 0, 0), "openvino_int8": Parity(0.1, 2e-5, 0.00012, 3)})
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["openvino_int8", "1.0e-01", "2.0e-05", "0.0120%", "3"]


# Exporting


def _splits() -> dict[str, Split]:
    images = ConcatenatedArray([np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 1), np.uint8)])
    masks = ConcatenatedArray([np.zeros((12, SIZE, SIZE), np.uint8)])
    return {"train": Split(images, masks, np.arange(8)), "validation": Split(images, masks, np.arange(8, 12))}


@pytest.fixture(scope="module")
def network():
    """Untrained, but with weights large enough for answers other than a half."""
    network = build_network(SIZE)
    rng = np.random.default_rng(0)
    network.set_weights(
        [w + rng.normal(0, 0.05, w.shape) * (w.ndim == 4) for w in network.get_weights()],
    )
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    exporting.export(network, folder, _splits(), IMAGING, seed=0)
    return folder


@pytest.mark.slow
def test_every_file_is_compared(exported):
    content = json.loads((exported / "parity.json").read_text())
    assert content["pictures"] == 4
    assert set(content["files"]) == {"openvino", "onnx", "saved_model", "openvino_int8"}
    for name, found in content["files"].items():
        assert (exported / exporting.FILES[name]).exists()
        assert set(found) == {"largest", "mean", "pixels", "verdicts"}
        assert found["largest"] <= TOLERANCE or name == "openvino_int8"
    sizes = [(exported / name / "model.bin").stat().st_size for name in ("openvino", "openvino_int8")]
    assert sizes[1] < sizes[0] / 3


@pytest.mark.slow
def test_both_engines_give_the_same_answer(exported):
    pictures = _splits()["train"].images[np.arange(3)]
    openvino = Network(exported / NETWORKS["openvino"], IMAGING).probabilities(pictures)
    onnxruntime = Network(exported / GPU_NETWORK, IMAGING, engine="onnxruntime").probabilities(pictures)
    assert openvino.std() > 1e-3
    np.testing.assert_allclose(onnxruntime, openvino, atol=1e-5)


def test_onnx_runtime_refuses_a_broken_file(tmp_path):
    (tmp_path / "model.onnx").write_text("not a network")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded"):
        Network(tmp_path / "model.onnx", IMAGING, engine="onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["openvino", "onnx", "saved_model"])
def test_a_file_of_another_network_fails_the_export(exported, network, tmp_path, monkeypatch, wrong):
    """The file `wrong` answers for inverted pictures, as another network would."""
    answers = exporting.parity.ask_file

    def ask(file, imaging, pictures):
        return answers(
            file, imaging, 255 - pictures if file == tmp_path / exporting.FILES[wrong] else pictures
        )

    monkeypatch.setattr(exporting.parity, "ask_file", ask)
    monkeypatch.setattr(
        exporting, "write_float32", lambda _, folder: shutil.copytree(exported, folder, dirs_exist_ok=True)
    )
    with pytest.raises(BundleError, match=exporting.FILES[wrong]):
        exporting.export(network, tmp_path, _splits(), IMAGING, seed=0)


@pytest.mark.slow
def test_int8_can_be_left_out(exported, network, tmp_path, monkeypatch):
    def write(_, folder):
        shutil.copytree(exported, folder, dirs_exist_ok=True, ignore=lambda *_: ["openvino_int8"])

    monkeypatch.setattr(exporting, "write_float32", write)
    exporting.export(network, tmp_path, _splits(), IMAGING, seed=0, int8=False)
    assert not (tmp_path / "openvino_int8").exists()
    assert "openvino_int8" not in json.loads((tmp_path / "parity.json").read_text())["files"]
