"""The predictor and the commands around it, as real processes."""

import asyncio
import base64
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from endpoints import START_S, command, near_and_far, process_of, wait_until_ready
from networks import SIZE, Judged, draw, judge_model
from PIL import Image
from servers import free_port

from defectline.client.overlay import draw_overlay
from defectline.components.common import checksums
from defectline.components.common.bundle import copy_served, publish_folder
from defectline.components.common.images.imaging import decode_mask
from defectline.components.common.inference.inspection import Network, answer, to_prediction
from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord
from defectline.components.common.storage import open_storage
from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol.requests import read_raw

DEFECTLINE = [sys.executable, "-m", "defectline.cli"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


@pytest.fixture(scope="module")
def served(judged, tmp_path_factory) -> Path:
    """What KServe would pull."""
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_served(judged.folder, folder)
    return folder


@pytest.fixture(scope="module")
def url(served, tmp_path_factory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("log") / "serve.log"
    url = f"http://127.0.0.1:{port}"
    with process_of(command(served, port), log) as process:
        wait_until_ready(process, url, "plates", log)
        yield url
        assert process.poll() is None, log.read_text()


def _predict(url: str, data: bytes | str, content_type: str) -> requests.Response:
    address = f"{url}/v1/models/plates:predict"
    return requests.post(address, data=data, headers={"Content-Type": content_type}, timeout=30)


def _encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(image).save(out, kind)
    return out.getvalue()


def _plate(seed: int = 5, label: str = "NG", size: int = SIZE) -> np.ndarray:
    return draw(label, np.random.default_rng(seed), size)[0]


def _body(*pictures: bytes) -> str:
    items = [{"image": {"b64": base64.b64encode(picture).decode()}} for picture in pictures]
    return json.dumps({"instances": items})


def _expected(judged: Judged, picture: bytes) -> dict:
    """What evaluate says about the picture."""
    network = Network(judged.folder / "openvino/model.xml", judged.bundle.imaging)
    score_map = network.score_map(picture)
    return to_prediction(answer(score_map, judged.bundle.threshold, judged.bundle.min_area_px))


def _judgement(prediction: dict) -> dict:
    """A prediction without what differs from one request to the next."""
    assert prediction.pop("latency_ms") > 0
    assert prediction.pop("model_version").startswith("v20")
    return prediction


# Answers

PNG = _encode(_plate())


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("PNG", "image/png"), ("BMP", "image/bmp"), ("JPEG", "image/jpeg"), ("TIFF", "image/tiff")],
)
def test_a_raw_picture_is_answered_as_evaluate_would(url, judged, kind, content_type):
    picture = _encode(_plate(), kind)
    response = _predict(url, picture, content_type)
    assert response.status_code == 200
    (prediction,) = response.json()["predictions"]
    assert prediction["model_version"] == judged.bundle.version
    expected = _expected(judged, picture)
    assert expected["verdict"] == "NG"
    assert _judgement(prediction) == expected


def test_a_model_with_grades_answers_them(served, judged, tmp_path):
    folder = tmp_path / "graded"
    shutil.copytree(served, folder)
    content = json.loads((folder / "bundle.json").read_text())
    area = _expected(judged, PNG)["defect_area_px"]
    content["grades"] = {"a_px": area - 1, "b_px": area}
    (folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(folder)
    model = DefectModel("plates", folder)
    model.load()
    (judged,) = asyncio.run(model.predict(read_raw(PNG, {}))).results
    assert judged.prediction["grade"] == "B"


@pytest.mark.parametrize("size", [SIZE, 150, 40])
@pytest.mark.parametrize("label", ["OK", "NG"])
def test_other_sizes_and_good_pictures_too(url, judged, label, size):
    picture = _encode(_plate(7, label, size))
    (prediction,) = _predict(url, picture, "image/png").json()["predictions"]
    assert decode_mask(base64.b64decode(prediction["mask_png"])).shape == (size, size)
    assert _judgement(prediction) == _expected(judged, picture)


def test_json_with_one_and_with_several_pictures(url, judged):
    pictures = [_encode(_plate(seed, label)) for seed, label in [(1, "NG"), (2, "OK"), (3, "NG")]]
    for sent in (pictures[:1], pictures):
        response = _predict(url, _body(*sent), "application/json")
        assert response.status_code == 200
        predictions = response.json()["predictions"]
        assert [_judgement(p) for p in predictions] == [_expected(judged, picture) for picture in sent]


def test_golden_pictures_of_the_bundle_get_their_sealed_masks(url, judged):
    for golden in judged.bundle.golden:
        picture = (judged.folder / "golden" / golden.file).read_bytes()
        (prediction,) = _predict(url, picture, golden.content_type).json()["predictions"]
        assert (prediction["verdict"], prediction["score"]) == (golden.verdict, golden.score)
        mask = (judged.folder / "golden" / golden.mask_file).read_bytes()
        assert base64.b64decode(prediction["mask_png"]) == mask


def test_the_model_says_that_it_is_ready_and_others_are_not_found(url):
    assert requests.get(f"{url}/v1/models/plates", timeout=5).json() == {"name": "plates", "ready": True}
    assert requests.get(f"{url}/v2/models/other/ready", timeout=5).status_code == 404
    response = requests.post(f"{url}/v1/models/other:predict", json={}, timeout=5)
    assert response.status_code == 404
    assert "other" in response.json()["error"]["message"]


def test_nobody_can_unload_the_model(url):
    response = requests.post(f"{url}/v2/repository/models/plates/unload", timeout=5)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert _predict(url, PNG, "image/png").status_code == 200


# Bad bodies


def _huge() -> bytes:
    """A PNG that says it has 60,000×60,000 pixels."""
    data = bytearray(PNG)
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "image/png", "0 bytes"),
        (b"", "application/json", "not valid JSON"),
        (np.random.default_rng(0).bytes(5000), "image/png", "5000 bytes"),
        (PNG[: len(PNG) // 2], "image/png", "damaged"),
        (_huge(), "image/png", "too large"),
        (b"{", "application/json", "not valid JSON"),
        (b"\xff\xd8\xff", "application/json", "not valid JSON"),
        (b"[]", "application/json", "cannot be used|list|object"),
        (b"7", "application/json", "cannot be used|object"),
        (b"{}", "application/json", "Expected"),
        (b'{"pictures": []}', "application/json", "Expected"),
        (b'{"instances": 3}', "application/json", "(?i)expected"),
        (b'{"instances": "abc"}', "application/json", "(?i)expected"),
        (b'{"instances": {"image": 1}}', "application/json", "(?i)expected"),
        (b'{"instances": null}', "application/json", "(?i)expected"),
        (b'{"instances": []}', "application/json", "no picture"),
        (b'{"instances": [1]}', "application/json", "(?i)expected"),
        (b'{"instances": [{"image": {"b64": 5}}]}', "application/json", "(?i)expected"),
        (b'{"instances": [{"image": {"b64": "%%%"}}]}', "application/json", "(?i)expected"),
        ('{"instances": [{"image": {"b64": "\u00e9"}}]}'.encode(), "application/json", "(?i)expected"),
        (_body(b"no picture").encode(), "application/json", "10 bytes"),
        (_body(PNG, b"").encode(), "application/json", "0 bytes"),
        (PNG, "application/json", "not valid JSON"),
        (b"no picture", "application/octet-stream", "10 bytes"),
    ],
)
def test_bad_bodies_are_refused_in_words(url, body, content_type, says):
    response = _predict(url, body, content_type)
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]["message"]
    assert re.search(says, error), error
    assert "Traceback" not in error
    assert "Error :" not in error
    assert len(error) < 500


def test_after_all_that_it_still_answers(url):
    assert _predict(url, PNG, "image/png").status_code == 200


# Under load


def test_many_at_once_get_the_answers_of_one_at_a_time(url):
    pictures = [_encode(_plate(seed, ("OK", "NG")[seed % 2])) for seed in range(24)]

    def ask(picture: bytes) -> dict:
        return _judgement(_predict(url, picture, "image/png").json()["predictions"][0])

    alone = [ask(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, pictures)) == alone


def test_health_is_answered_while_a_large_picture_is_judged(url):
    # Sixteen megapixels take a second or more, so that probes come in between.
    picture = _encode(np.full((4000, 4000), 100, np.uint8))
    done, probes = threading.Event(), 0
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(_predict, url, picture, "image/png")
        busy.add_done_callback(lambda _: done.set())
        while not done.is_set():
            assert requests.get(f"{url}/v2/health/live", timeout=10).status_code == 200
            probes += not done.is_set()
        assert busy.result().status_code == 200
    assert probes >= 3


# Starting and ending


def _fails(command: list[str]) -> str:
    """What a command prints that must exit with 2."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_files_that_are_not_what_was_sealed_are_never_served(served, tmp_path, damage):
    folder = tmp_path / "model"
    if damage == "changed":
        shutil.copytree(served, folder)
        data = (folder / "openvino/model.xml").read_bytes()
        (folder / "openvino/model.xml").write_bytes(data.replace(b"by-hand", b"by-foot"))
    port, log = free_port(), tmp_path / "serve.log"
    listened, deadline = False, time.monotonic() + START_S
    with process_of(command(folder, port), log) as process:
        while process.poll() is None and not listened and time.monotonic() < deadline:
            with socket.socket() as probe:
                listened |= probe.connect_ex(("127.0.0.1", port)) == 0
            time.sleep(0.02)
        assert not listened
        assert process.poll() == 2
    said = log.read_text()
    assert ("is not what was sealed" if damage == "changed" else "is not sealed") in said
    assert "Traceback" not in said


def test_a_port_that_is_taken(served):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} cannot be used" in _fails(command(served, port))


# The commands


@pytest.fixture(scope="module")
def champion(judged) -> Judged:
    storage = open_storage(str(judged.store))
    publish_folder(judged.folder, storage, f"models/plates/{judged.bundle.version}")
    current = ChampionRecord(version=judged.bundle.version, run="one")
    storage.compare_and_swap(champion_key("plates"), current.model_dump_json().encode(), None)
    return judged


def test_defectline_serve_serves_the_champion_until_it_is_told_to_end(champion, tmp_path):
    port, log = free_port(), tmp_path / "serve.log"
    url = f"http://127.0.0.1:{port}"
    command = [*DEFECTLINE, "serve", "--store", str(champion.store), "--name", "plates", "--port", str(port)]
    near, _ = near_and_far(champion)
    with process_of([*command, "--no-review", "--no-page"], log) as process:
        wait_until_ready(process, url, "plates", log)
        (prediction,) = _predict(url, near, "image/png").json()["predictions"]
        assert prediction["model_version"] == champion.bundle.version
        assert requests.get(url, timeout=60).json() == {"status": "alive"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_S) == 0
    assert not (champion.store / "review").exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_defectline_serve_without_a_champion(tmp_path):
    said = _fails([*DEFECTLINE, "serve", "--store", str(tmp_path), "--name", "plates"])
    assert "There is no model plates to serve" in said
    assert "make run" in said


def test_defectline_serve_on_a_port_that_is_taken(champion):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*DEFECTLINE, "serve", "--store", str(champion.store), "--name", "plates", "--port", port]
        assert f"Port {port} cannot be used" in _fails(command)


def _inspect(url: str, folder: Path, *pictures: Path) -> list[str]:
    command = [*DEFECTLINE, "inspect", *map(str, pictures), "--url", url, "--name", "plates"]
    return [*command, "--overlays", str(folder / "inspected")]


def test_defectline_inspect_prints_and_draws_what_was_found(url, tmp_path):
    for label in ("OK", "NG"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(_encode(_plate(4, label)))
    command = _inspect(url, tmp_path, tmp_path / "OK/1.png", tmp_path / "NG/1.png")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if ".png" in line]
    assert [row[:2] for row in rows] == [["OK/1.png", "OK"], ["NG/1.png", "NG"]]
    for label in ("OK", "NG"):
        overlay = Image.open(tmp_path / f"inspected/{label}-1.png")
        assert overlay.size == (448, 448 + 34)
        red = (np.asarray(overlay) == (231, 76, 60)).all(axis=2).sum()
        assert (red > 100) == (label == "NG")


def test_an_overlay_of_a_large_picture_can_be_read_too(tmp_path):
    picture, target = _encode(np.zeros((1000, 1792), np.uint8)), tmp_path / "overlay.png"
    score_map = np.zeros((1000, 1792), np.uint16)
    score_map[400:500, 300:700] = 900
    draw_overlay(picture, to_prediction(answer(score_map, 0.5, 20)), target)
    drawn = np.asarray(Image.open(target))
    assert drawn.shape == (1000 + 136, 1792, 3)
    red = (drawn == (231, 76, 60)).all(axis=2)
    # The outline grows with the picture.
    assert red[136 + 450, 250:350].sum() >= 3


def test_defectline_inspect_without_an_endpoint(tmp_path):
    (tmp_path / "plate.png").write_bytes(PNG)
    url = f"http://127.0.0.1:{free_port()}"
    assert f"{url} does not answer" in _fails(_inspect(url, tmp_path, tmp_path / "plate.png"))
    assert not (tmp_path / "inspected").exists()


def test_defectline_inspect_of_what_is_no_picture(url, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    said = _fails(_inspect(url, tmp_path, tmp_path / "notes.png"))
    assert "does not accept" in said
    assert "10 bytes" in said
    assert "cannot be read" in _fails(_inspect(url, tmp_path, tmp_path / "missing.png"))


def test_defectline_inspect_where_something_else_answers(tmp_path):
    """A web server that says 200 to everything."""

    class Anything(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *args: object) -> None:
            return

    (tmp_path / "plate.png").write_bytes(PNG)
    with http.server.HTTPServer(("127.0.0.1", 0), Anything) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert "no prediction" in _fails(_inspect(url, tmp_path, tmp_path / "plate.png"))
        finally:
            server.shutdown()
            thread.join()


def test_overlays_that_cannot_be_written(url, tmp_path):
    (tmp_path / "plate.png").write_bytes(PNG)
    (tmp_path / "inspected").write_text("a file where the folder should be")
    said = _fails(_inspect(url, tmp_path, tmp_path / "plate.png"))
    assert "cannot be written" in said
