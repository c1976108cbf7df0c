"""One line a request."""

import json

import requests
from endpoints import PREDICT, START_S, plate, post, serving, v2_body
from tensors import infer

PNG = plate()


def test_one_line_a_request_and_nothing_else(model, judged, tmp_path):
    with serving(model, tmp_path / "log") as running:
        post(running.url + PREDICT, PNG, "image/png", headers={"x-request-id": "a"})
        post(f"{running.url}/v2/models/plates/infer", v2_body(PNG, plate(7, "OK"), id="b"))
        post(f"{running.url}{PREDICT}?secret=1", b"no picture", "image/png", headers={"x-request-id": "c"})
        infer(running.grpc, PNG)
        requests.get(f"{running.url}/v2/health/ready", timeout=5)
        requests.get(f"{running.url}/metrics", timeout=5)
        running.process.terminate()
        running.process.wait(START_S)
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["serving", *["request"] * 4, "draining", "ended"]
    first, second, third, fourth = lines[1:5]
    assert first["request_id"] == "a"
    assert first["call"] == "POST " + PREDICT
    assert (first["protocol"], first["status"], first["verdicts"]) == ("v1_raw", 200, ["NG"])
    assert first["model_version"] == judged.bundle.version
    assert set(first["ms"]) == {"queue", "decode", "infer", "answer", "total"}
    assert (second["request_id"], second["protocol"]) == ("b", "v2_json")
    assert second["verdicts"] == ["NG", "OK"]
    assert (third["status"], third["code"]) == (400, "invalid_request")
    assert "secret" not in third["call"]
    assert (fourth["call"], fourth["protocol"], fourth["status"]) == ("ModelInfer", "grpc", "OK")
