"""Judged pictures → the bodies of every protocol."""

import asyncio
import json
import shutil
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from endpoints import b64, plate, v2_body
from PIL import Image
from tensors import by_name, from_grpc, from_tensors

from defectline.components.common.images.masks import decode_mask
from defectline.components.common.inference.inspection import Answer
from defectline.components.common.prediction import Prediction
from defectline.components.common.storage import checksums
from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol import openapi
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.requests import InferenceRequest, read_raw, read_v2
from defectline.components.serve.protocol.responses import (
    DATATYPES,
    ImageResult,
    InferenceResponse,
    to_grpc,
    to_legacy,
    to_v1,
    to_v2,
)
from defectline.components.serve.protocol.responses import encode as encode_answer

PNG = plate()


def _ask(predictor: DefectModel, body: dict[str, Any]) -> tuple[InferenceRequest, InferenceResponse]:
    request, _ = read_v2(json.dumps(body).encode(), None, {})
    return request, asyncio.run(predictor.predict(request))


@pytest.fixture(scope="module")
def predictor(model) -> DefectModel:
    predictor = DefectModel("plates", model)
    predictor.load()
    return predictor


def test_v1_has_every_field_of_a_prediction(predictor):
    request = read_raw(PNG, {})
    (prediction,) = to_v1(request, asyncio.run(predictor.predict(request)))["predictions"]
    assert set(prediction) == set(Prediction.model_fields) - {"class_areas_px"}
    assert Prediction.model_validate(prediction).model_extra == {}


def test_v2_has_a_tensor_for_each_field_but_those_of_the_whole_answer(predictor):
    request, response = _ask(predictor, v2_body(PNG))
    body, _ = to_v2(request, response)
    fields = {name.replace("mask_png", "mask") for name in Prediction.model_fields}
    assert fields - set(by_name(json.loads(body))) == {"model_version", "latency_ms", "class_areas_px"}
    assert DATATYPES == {
        "verdict": "BYTES",
        "score": "FP64",
        "grade": "BYTES",
        "defect_area_px": "INT64",
        "defect_area_ratio": "FP64",
        "class_areas_px": "BYTES",
        "regions": "BYTES",
        "mask": "BYTES",
    }
    over_grpc = from_grpc(to_grpc(request._replace(protocol="grpc"), response))
    assert from_tensors(over_grpc) == from_tensors(by_name(json.loads(body)))


def test_grades_are_left_out_without_limits(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    content = json.loads((tmp_path / "model/bundle.json").read_text())
    del content["grades"]
    (tmp_path / "model/bundle.json").write_text(json.dumps(content))
    checksums.seal(tmp_path / "model")
    predictor = DefectModel("plates", tmp_path / "model")
    predictor.load()
    assert "grade" not in by_name(json.loads(to_v2(*_ask(predictor, v2_body(PNG)))[0]))
    asked = _ask(predictor, v2_body(PNG, outputs=[{"name": "grade"}]))
    with pytest.raises(ApiError, match="no limits"):
        to_v2(*asked)
    assert predictor.loaded
    outputs = [o["name"] for o in openapi.model_metadata("plates", predictor.loaded.bundle, "")["outputs"]]
    assert not {"grade", "class_areas_px"} & {*outputs}


def test_masks_are_encoded_as_each_protocol_wants_them():
    mask = np.zeros((5, 9), np.uint8)
    mask[1:3, 2:7] = 1
    one = Answer("NG", 1.0, [], mask)
    several = Answer("NG", 1.0, [], mask * np.uint8(2), ("scratch", "dent"))
    assert encode_answer(one, "none") is None
    for found, mode in ((one, "1"), (several, "P")):
        png, bmp = (encode_answer(found, kind) for kind in ("png", "bmp"))
        assert png
        assert bmp
        with Image.open(BytesIO(png)) as opened:
            assert opened.mode == mode
        np.testing.assert_array_equal(decode_mask(png, numbered=True), found.mask)
        with Image.open(BytesIO(bmp)) as opened:
            assert (opened.format, opened.mode) == ("BMP", "L")
            np.testing.assert_array_equal(np.asarray(opened), 255 * mask)
    result = ImageResult({"defect_area_ratio": 0.2}, b"mask", 1.0)
    assert to_legacy(InferenceResponse([result], "plates", "v1", "a")) == {
        "defected_area": "0.2",
        "segmented_image": b64(b"mask"),
    }
