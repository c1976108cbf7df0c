"""Every exported file answers as the network that was trained, or nothing is sealed."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from small_network import build_small

from defectline.components.common.bundle import GPU_NETWORK, NETWORKS
from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.network import Network
from defectline.components.train.decoders import DECODERS
from defectline.components.train.formats import export as exporting
from defectline.components.train.formats.parity import TOLERANCE
from defectline.components.train.network import build_network
from defectline.components.train.settings import DECODER, DecoderName

SIZE = 32


IMAGING = ImagingSettings(image_size=SIZE)


def _splits() -> dict[str, Split]:
    images = ConcatenatedArray([np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 1), np.uint8)])
    masks = ConcatenatedArray([np.zeros((12, SIZE, SIZE), np.uint8)])
    return {"train": Split(images, masks, np.arange(8)), "validation": Split(images, masks, np.arange(8, 12))}


def _build(decoder: DecoderName = DECODER) -> keras.Model:
    """Untrained, but with weights large enough for answers other than a half."""
    network = build_network(SIZE, decoder=decoder)
    rng = np.random.default_rng(0)
    network.set_weights(
        [w + rng.normal(0, 0.05, w.shape) * (w.ndim == 4) for w in network.get_weights()],
    )
    return network


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return _build()


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    exporting.export(network, folder, _splits(), IMAGING, seed=0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_file_is_compared(decoder, exported, tmp_path):
    if decoder != DECODER:
        exporting.export(_build(decoder), tmp_path, _splits(), IMAGING, seed=0)
        exported = tmp_path
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


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["openvino", "onnx", "saved_model"])
def test_a_file_of_another_network_fails_the_export(exported, network, tmp_path, monkeypatch, wrong):
    """The file `wrong` answers for inverted pictures, as another network would."""
    answers = exporting.parity.ask_file

    def ask(file, imaging, pictures, classes):
        inverted = file == tmp_path / exporting.FILES[wrong]
        return answers(file, imaging, 255 - pictures if inverted else pictures, classes)

    monkeypatch.setattr(exporting.parity, "ask_file", ask)
    monkeypatch.setattr(
        exporting,
        "write_float32",
        lambda _, folder, __: shutil.copytree(exported, folder, dirs_exist_ok=True),
    )
    with pytest.raises(BundleError, match=exporting.FILES[wrong]):
        exporting.export(network, tmp_path, _splits(), IMAGING, seed=0)


@pytest.mark.slow
def test_int8_can_be_left_out(exported, network, tmp_path, monkeypatch):
    def write(_, folder, __):
        shutil.copytree(exported, folder, dirs_exist_ok=True, ignore=lambda *_: ["openvino_int8"])

    monkeypatch.setattr(exporting, "write_float32", write)
    exporting.export(network, tmp_path, _splits(), IMAGING, seed=0, int8=False)
    assert not (tmp_path / "openvino_int8").exists()
    assert "openvino_int8" not in json.loads((tmp_path / "parity.json").read_text())["files"]


@pytest.mark.slow
def test_every_file_of_a_network_of_several_classes_is_compared(tmp_path):
    classes = ("scratch", "dent", "stain")
    exporting.export(
        build_small(SIZE, classes=classes), tmp_path, _splits(), IMAGING, seed=0, classes=classes
    )
    files = json.loads((tmp_path / "parity.json").read_text())["files"]
    assert set(files) == {"openvino", "onnx", "saved_model", "openvino_int8"}
    pictures = _splits()["train"].images[np.arange(3)]
    given = [
        Network(tmp_path / NETWORKS["openvino"], IMAGING, classes=classes).probabilities(pictures),
        Network(tmp_path / GPU_NETWORK, IMAGING, engine="onnxruntime", classes=classes).probabilities(
            pictures
        ),
        exporting.parity.ask_file(tmp_path / "saved_model/1", IMAGING, pictures),
    ]
    for probabilities in given:
        assert probabilities.shape == (3, SIZE, SIZE, 4)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose(probabilities, given[0], atol=1e-5)
