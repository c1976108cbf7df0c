"""The endpoint does what its description says."""

import json
import subprocess
import sys
from pathlib import Path

import requests
from endpoints import plate, post, v2_body

from defectline.components.common.prediction import Prediction
from defectline.components.serve.sdk import messages

PNG = plate()


def test_metadata(served, judged, call):
    meta = requests.get(f"{served.url}/v2/models/plates", timeout=5).json()
    assert meta["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert meta["versions"] == [judged.bundle.version]
    body = post(f"{served.url}/v2/models/plates/infer", v2_body(PNG)).json()
    assert [(o["name"], o["datatype"]) for o in meta["outputs"]] == [
        (o["name"], o["datatype"]) for o in body["outputs"]
    ]
    told = call("ModelMetadata", messages.ModelMetadataRequest(name="plates"))
    assert [o.name for o in told.outputs] == [o["name"] for o in meta["outputs"]]
    assert requests.get(f"{served.url}/v2/models", timeout=5).json() == {
        "models": ["plates", "imagesegmodel"]
    }
    assert call("ServerMetadata", messages.ServerMetadataRequest()).name == "defectline"


def test_the_description(served):
    schema = requests.get(f"{served.url}/openapi.json", timeout=5).json()
    assert schema["paths"]["/v1/models/{name}:predict"]["post"]["parameters"][0]["schema"]["enum"] == [
        "plates",
        "imagesegmodel",
    ]
    page = requests.get(f"{served.url}/docs", timeout=5)
    assert page.headers["content-type"].startswith("text/html")
    assert "POST /v2/models/{name}/infer" in page.text
    assert "<script" not in page.text


def test_it_does_what_its_description_says(served, tmp_path):
    """schemathesis makes up requests from /openapi.json, right ones and wrong ones."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{served.url}/openapi.json"]
    options = [
        "--checks",
        "all",
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing",
    ]
    # No schema says of bytes that they are a picture.
    options += ["--exclude-checks", "positive_data_acceptance"]
    # Too many pictures are refused with 413, which is not among those that it expects by itself.
    refused = "[400, 404, 405, 413, 415]"
    (tmp_path / "schemathesis.toml").write_text(
        f"[checks]\nnegative_data_rejection.expected-statuses = {refused}\n"
    )
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_region_of_interest_is_described(served):
    paths = requests.get(f"{served.url}/openapi.json", timeout=5).json()["paths"]
    responses = paths["/v2/models/{name}/roi"]["get"]["responses"]
    assert set(responses) == {"200", "204", "404", "503"}
    assert set(responses["200"]["content"]) == {"image/png"}


def test_the_answer_is_described_field_by_field(served):
    schemas = requests.get(f"{served.url}/openapi.json", timeout=5).json()["components"]["schemas"]
    prediction = schemas["Prediction"]
    assert set(prediction["properties"]) == set(Prediction.model_fields)
    optional = {"grade", "regions", "mask_png", "class_areas_px"}
    assert set(prediction["properties"]) - set(prediction["required"]) == optional
    assert prediction["properties"]["grade"]["enum"] == ["A", "B", "reject"]
    assert prediction["additionalProperties"] is schemas["Region"]["additionalProperties"] is False
    assert "null" not in json.dumps(schemas)
