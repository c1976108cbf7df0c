"""What Prometheus reads."""

import requests
from endpoints import PREDICT, plate, post, serving, v1_body
from tensors import infer

PNG = plate()


def test_metrics(model, tmp_path):
    with serving(model, tmp_path / "log") as running:
        post(running.url + PREDICT, v1_body(PNG, plate(7, "OK")))
        post(running.url + PREDICT, b"no picture", "image/png")
        infer(running.grpc, PNG)
        text = requests.get(f"{running.url}/metrics", timeout=5).text
    for line in (
        'defectline_requests_total{code="200",protocol="v1_json"} 1.0',
        'defectline_requests_total{code="400",protocol="v1_raw"} 1.0',
        'defectline_requests_total{code="OK",protocol="grpc"} 1.0',
        'defectline_verdicts_total{verdict="NG"} 2.0',
        'defectline_verdicts_total{verdict="OK"} 1.0',
        'defectline_stage_seconds_count{stage="infer"} 3.0',
        "defectline_defect_area_ratio_count 2.0",
        "defectline_queue_length 0.0",
        "defectline_ready 1.0",
        'defectline_request_seconds_count{protocol="grpc"} 1.0',
    ):
        assert line in text.splitlines(), text
    assert "process_resident_memory_bytes" in text
