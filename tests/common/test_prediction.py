"""The fields of an answer are declared once, and what fills them fills them all."""

import subprocess
import sys

import numpy as np

from defectline.components.common.inference.class_maps import of_output
from defectline.components.common.inference.inspection import Grades, answer, to_prediction
from defectline.components.common.prediction import Prediction, Region

OF_THE_REQUEST = {"model_version": "v1", "latency_ms": 1.0}


def test_a_prediction_has_every_field_that_is_declared_and_no_other():
    score_map = np.zeros((40, 40), np.uint16)
    score_map[5:15, 5:15] = 900
    maps = of_output(("scratch", "dent"), np.full((40, 40, 2), 0.5, np.float32), 40, 40)
    filled = to_prediction(answer(score_map, 0.5, 20, maps), Grades(a_px=1, b_px=2)) | OF_THE_REQUEST
    assert set(filled) == set(Prediction.model_fields)
    read = Prediction.model_validate(filled, strict=False)
    assert read.model_dump(mode="json") == filled
    (region,) = filled["regions"]
    assert set(region) == {field.alias or name for name, field in Region.model_fields.items()}


def test_what_an_endpoint_may_leave_out_and_what_a_newer_one_may_add():
    score_map = np.zeros((40, 40), np.uint16)
    filled = to_prediction(answer(score_map, 0.5, 20), mask=False) | OF_THE_REQUEST
    read = Prediction.model_validate(filled | {"sharpness": 3})
    assert (read.grade, read.mask_png, read.regions) == (None, None, ())
    assert read.model_extra == {"sharpness": 3}


def test_it_needs_nothing_but_pydantic():
    code = "import sys, defectline.components.common.prediction; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "pydantic" in loaded
    assert loaded.isdisjoint({"numpy", "cv2", "PIL", "boto3", "httpx", "kserve", "openvino"})
