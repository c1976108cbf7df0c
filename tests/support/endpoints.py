"""Predictors as real processes, and what tests ask them."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import requests
from networks import SIZE, Judged, draw
from numpy.typing import NDArray
from pictures import encode
from servers import free_port

from defectline.components.common.bundle import publish_folder
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import champion_key, model_folder
from defectline.components.common.records import ChampionRecord
from defectline.components.common.storage import checksums, open_storage

START_S = 180
PREDICT = "/v1/models/plates:predict"


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

    def request(self, request_id: str) -> dict[str, Any]:
        """The line of a request, which follows its answer."""
        deadline = time.monotonic() + START_S
        while not (found := [line for line in self.lines() if line["request_id"] == request_id]):
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


def wait_until_ready(process: subprocess.Popen, url: str, name: str, log: Path, **more: Any) -> None:
    """`more` are arguments of requests."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            if requests.get(f"{url}/v2/models/{name}/ready", timeout=5, **more).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@contextmanager
def serving(
    folder: Path,
    log: Path,
    *more: str,
    name: str = "plates",
    headers: dict[str, str] | None = None,
    verify: Path | None = None,
) -> Iterator[Running]:
    """A predictor of `folder` on free ports, over HTTP and gRPC. It is asked with these headers whether it is
    ready; over HTTPS where there is a certificate to `verify` it by."""
    port, grpc_port = free_port(), free_port()
    arguments = command(
        folder, port, "--enable_grpc", "true", "--grpc_port", str(grpc_port), *more, name=name
    )
    with process_of(arguments, log) as process:
        url = f"{'https' if verify else 'http'}://127.0.0.1:{port}"
        wait_until_ready(process, url, quote(name), log, headers=headers, verify=verify or True)
        yield Running(url, f"127.0.0.1:{grpc_port}", process, log)


def other_version(model: Path, target: Path, version: str) -> Path:
    """A copy of a published model that has another version."""
    shutil.copytree(model, target)
    content = json.loads((target / "bundle.json").read_text())
    (target / "bundle.json").write_text(json.dumps(content | {"version": version}))
    checksums.seal(target)
    return target


def publish_champion(folder: Path, version: str, root: Path | str, name: str = "plates") -> str:
    """Make the bundle in `folder` the champion of this name in the store `root`; returns its URI."""
    store = open_storage(str(root))
    publish_folder(folder, store, model_folder(name, version))
    store.write(champion_key(name), ChampionRecord(version=version, run="one").model_dump_json().encode())
    return str(root)


def metric(url: str, name: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=60).text
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


def wait_for_metric(url: str, name: str, least: float) -> None:
    """Observers see an answer after it was sent."""
    deadline = time.monotonic() + START_S
    while (found := metric(url, name)) < least:
        assert time.monotonic() < deadline, f"{name} is {found}"
        time.sleep(0.02)


def frame(number: int, darker: int = 0) -> NDArray[np.uint8]:
    """A picture of the line, (SIZE, SIZE); every other one is NG."""
    image = draw(("OK", "NG")[number % 2], np.random.default_rng(number))[0]
    return image - np.uint8(darker)


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


def graded(judged: Judged, picture: bytes) -> dict[str, Any]:
    """What evaluate says about a picture, with the grade."""
    says = expected(judged, picture)
    area, grades = says["defect_area_px"], json.loads((judged.folder / "bundle.json").read_text())["grades"]
    fits = says["verdict"] == "OK" or area <= grades["a_px"]
    return {**says, "grade": "A" if fits else "B" if area <= grades["b_px"] else "reject"}


def plain(prediction: dict[str, Any], judged: Judged) -> dict[str, Any]:
    """A V1 prediction without what differs from one request to the next."""
    assert prediction.pop("latency_ms") > 0
    assert prediction.pop("model_version") == judged.bundle.version
    return prediction


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
    if "/v2" in response.url:
        # V2 has the message there, and V2's clients take nothing else.
        assert set(body) == {"error", "code", "request_id"}, body
        body = {"error": {**body, "message": body["error"]}}
        del body["error"]["error"]
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


def version_of(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]["model_version"]


async def ask_app(app: Any, receive: Callable[[], Awaitable[dict[str, Any]]]) -> list[Any]:
    """What an app in this process sends for a body that is received so."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"image/png"), (b"content-length", b"500")]
    scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "headers": headers}
    await app({**scope, "root_path": "", "http_version": "1.1"}, receive, send)
    return sent


def fails(command: list[str]) -> str:
    """What a command prints that must exit with 2."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
