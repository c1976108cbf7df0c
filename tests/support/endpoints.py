"""Predictors as real processes, and what tests ask them."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import requests
from networks import SIZE, Judged, draw
from pictures import encode
from servers import free_port

from defectline.components.common.inference.inspection import Network, answer, to_prediction

START_S = 180


class Running(NamedTuple):
    """A predictor that is ready."""

    url: str
    grpc: str
    """host:port"""
    process: subprocess.Popen
    log: Path

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        """What it has logged."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The last of so many lines of an event, as soon as they are there."""
        deadline = time.monotonic() + START_S
        while len(found := self.lines(event)) < count:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return found[-1]


def command(folder: Path, port: int, *more: str, name: str = "plates") -> list[str]:
    start = [sys.executable, "-m", "defectline.components.serve", "--model_dir", str(folder)]
    return [*start, "--model_name", name, "--http_port", str(port), *more]


@contextmanager
def process_of(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen, url: str, name: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if requests.get(f"{url}/v2/models/{name}/ready", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@contextmanager
def serving(folder: Path, log: Path, *more: str, name: str = "plates") -> Iterator[Running]:
    """A predictor of `folder` on free ports, over HTTP and gRPC."""
    port, grpc_port = free_port(), free_port()
    arguments = command(
        folder, port, "--enable_grpc", "true", "--grpc_port", str(grpc_port), *more, name=name
    )
    with process_of(arguments, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url, quote(name), log)
        yield Running(url, f"127.0.0.1:{grpc_port}", process, log)


def plate(seed: int = 5, label: str = "NG", size: int = SIZE) -> bytes:
    """A PNG."""
    return encode(draw(label, np.random.default_rng(seed), size)[0])


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def v1_body(*pictures: bytes, **parameters: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"instances": [{"image": {"b64": b64(picture)}} for picture in pictures]}
    return body | ({"parameters": parameters} if parameters else {})


def v2_body(*pictures: bytes, **more: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": [len(pictures)], "datatype": "BYTES"}
    return {"inputs": [{**tensor, "data": [b64(picture) for picture in pictures]}], **more}


def expected(judged: Judged, picture: bytes, threshold: float | None = None) -> dict[str, Any]:
    """What evaluate says about a picture."""
    network = Network(judged.folder / judged.bundle.network, judged.bundle.imaging)
    cut = judged.bundle.threshold if threshold is None else threshold
    return to_prediction(answer(network.score_map(picture), cut, judged.bundle.min_area_px))


def near_and_far(judged: Judged) -> tuple[bytes, bytes]:
    """A picture whose score is near the threshold, and one whose is not."""
    for brightness in range(135, 200):
        near = encode(draw("NG", np.random.default_rng(1), light=brightness)[0])
        if abs(expected(judged, near)["score"] - judged.bundle.threshold) < 0.03:
            return near, plate()
    raise AssertionError("no brightness makes a score near the threshold")


def error_of(response: requests.Response) -> dict[str, str]:
    """The error in an answer, which has the form that all of them have."""
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    for leak in ("Traceback", "Error:", "Error :", "0x", ".py", "site-packages"):
        assert leak not in body["error"]["message"], body
    assert len(body["error"]["message"]) < 500
    return body["error"]


def post(url: str, body: Any, content_type: str | None = None, **more: Any) -> requests.Response:
    """POST bytes as they are, anything else as JSON."""
    if not isinstance(body, bytes):
        body, content_type = json.dumps(body).encode(), content_type or "application/json"
    headers = more.pop("headers", {}) | ({"content-type": content_type} if content_type else {})
    return requests.post(url, data=body, headers=headers, timeout=60, **more)
