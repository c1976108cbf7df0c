"""What is gated is what is shipped: a real predictor gives, byte for byte, the answers of evaluate."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from networks import SIZE, Judged, draw, judge_model
from pictures import encode

from defectline.components.common.bundle import copy_served
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.deploy.local import predictor

KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "INT8": {"int8_cut": 40.0},
    "tiles": {"tile": True},
    "tiles in INT8": {"tile": True, "int8_cut": 40.0},
}


@pytest.fixture(scope="module", params=KINDS)
def judged(request, tmp_path_factory) -> Judged:
    judged = judge_model(tmp_path_factory.mktemp("judged") / "one", pairs=24, **KINDS[request.param])
    assert (judged.bundle.precision == "INT8") == ("INT8" in request.param)
    assert judged.bundle.imaging.tile == ("tiles" in request.param)
    return judged


@pytest.fixture(scope="module")
def url(judged, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_served(judged.folder, folder)
    with predictor(folder, "plates") as url:
        yield url


def _ask(url: str, picture: bytes) -> dict:
    response = requests.post(
        f"{url}/v1/models/plates:predict", data=picture, headers={"Content-Type": "image/png"}, timeout=30
    )
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    return prediction


def test_golden_pictures_get_what_evaluate_sealed(url, judged):
    assert {golden.verdict for golden in judged.bundle.golden} == {"OK", "NG"}
    for golden in judged.bundle.golden:
        given = _ask(url, (judged.folder / "golden" / golden.file).read_bytes())
        assert (given["verdict"], given["score"]) == (golden.verdict, golden.score)
        mask = (judged.folder / "golden" / golden.mask_file).read_bytes()
        assert base64.b64decode(given["mask_png"]) == mask


@pytest.mark.parametrize("size", [SIZE, 40, 2 * SIZE + 9, 300])
@pytest.mark.parametrize("label", ["OK", "NG"])
def test_any_picture_gets_what_evaluate_would_say(url, judged, label, size):
    picture = encode(draw(label, np.random.default_rng(size), size)[0])
    bundle = judged.bundle
    score_map = Network(judged.folder / bundle.network, bundle.imaging).score_map(picture)
    expected = to_prediction(answer(score_map, bundle.threshold, bundle.min_area_px))
    assert (expected["defect_area_px"] > 0) == (expected["verdict"] == "NG")
    given = _ask(url, picture)
    assert {key: given[key] for key in expected} == expected
    assert given["model_version"] == bundle.version
