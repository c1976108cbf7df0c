"""The endpoint on ONNX Runtime, with a network that was really exported."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from bundles import make_bundle
from endpoints import command, plate, post, serving
from networks import write_network
from servers import free_port
from small_network import build_small

from defectline.components.common.bundle import GPU_NETWORK, NETWORKS, read_bundle
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.common.storage import checksums
from defectline.components.serve.model import load
from defectline.components.serve.settings import ServeSettings
from defectline.components.train.formats.export import write_float32

SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A bundle whose float32 files are of one network, and which says that INT8 is served: of another."""
    folder = tmp_path_factory.mktemp("bundle") / "model"
    make_bundle(folder)
    network, rng = build_small(SIZE), np.random.default_rng(0)
    network.set_weights([w + rng.normal(0, 0.2, w.shape) * (w.ndim == 4) for w in network.get_weights()])
    write_float32(network, folder)
    (folder / "openvino_int8").mkdir()
    write_network(folder / NETWORKS["openvino_int8"], SIZE, 1, 40.0, int8=True)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "served": "openvino_int8"}))
    checksums.seal(folder)
    assert read_bundle(folder).precision == "INT8"
    return folder


def _says(network: Network, folder: Path, picture: bytes) -> dict:
    bundle = read_bundle(folder)
    return to_prediction(answer(network.score_map(picture), bundle.threshold, bundle.min_area_px))


@pytest.mark.slow
def test_onnx_runtime_answers_with_the_float32_network(model, tmp_path):
    imaging = read_bundle(model).imaging
    onnx = Network(model / GPU_NETWORK, imaging, threads=1, engine="onnxruntime")
    float32 = Network(model / NETWORKS["openvino"], imaging)
    int8 = Network(model / NETWORKS["openvino_int8"], imaging)
    pictures = [plate(seed, label) for seed, label in enumerate(["NG", "OK", "NG"])]
    with serving(model, tmp_path / "log", "--engine", "onnxruntime", "--threads", "1") as running:
        for picture in pictures:
            answered = post(f"{running.url}/v1/models/plates:predict", picture, "image/png")
            (prediction,) = answered.json()["predictions"]
            says = _says(onnx, model, picture)
            assert {key: prediction[key] for key in says} == says
            assert prediction["score"] == pytest.approx(_says(float32, model, picture)["score"], abs=0.002)
            assert prediction["score"] != pytest.approx(_says(int8, model, picture)["score"], abs=0.01)
        (started,) = running.lines("serving")
        assert (started["engine"], started["precision"]) == ("onnxruntime", "float32")
        told = requests.get(f"{running.url}/v2/models/plates", timeout=60).json()
        assert told["platform"] == "onnxruntime"
        assert 'precision="float32"' in requests.get(f"{running.url}/metrics", timeout=60).text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "openvino_int8"])
def test_pictures_that_share_the_threads_get_the_same_answers(model, kind):
    imaging = read_bundle(model).imaging
    alone, shared = (Network(model / NETWORKS[kind], imaging, threads) for threads in (0, 2))
    # Twos, as tiles come. Levels are rounded: they would often be equal where probabilities are not.
    pictures = np.random.default_rng(0).integers(0, 256, (16, 2, SIZE, SIZE, 1), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared.probabilities, pictures))
    for probabilities, two in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(probabilities, alone.probabilities(two))


@pytest.mark.slow
def test_a_bundle_without_the_engines_network_ends_the_start(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("onnx"))
    checksums.seal(folder)
    start = command(folder, free_port(), "--engine", "onnxruntime")
    done = subprocess.run(start, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2
    assert "has no network for the engine onnxruntime" in done.stderr
    assert "--engine openvino" in done.stderr
    assert "Traceback" not in done.stderr
    assert load(folder, ServeSettings()).precision == "INT8"
