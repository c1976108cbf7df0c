"""The Python client, against servers that misbehave in every way that one can."""

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from servers import free_port

from defectline.client import (
    AsyncClient,
    Client,
    Prediction,
    Refused,
    ServingError,
    SettingsError,
    Unavailable,
    retry,
)

PREDICTION = {
    "verdict": "NG",
    "score": 0.9,
    "grade": "B",
    "defect_area_px": 12,
    "defect_area_ratio": 0.01,
    "regions": [{"bbox": [1, 2, 3, 4], "area_px": 12, "centroid": [2.0, 3.5], "score": 0.9}],
    "mask_png": "aaaa",
    "model_version": "v1",
    "latency_ms": 3.5,
    "of_a_newer_server": 7,
}
GOOD = (200, {}, json.dumps({"predictions": [PREDICTION]}).encode())


def busy(status: int = 503, **headers: str) -> tuple[int, dict[str, str], bytes]:
    error = {"error": {"code": "busy", "message": "the queue is full", "request_id": "r7"}}
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        json.dumps(error).encode(),
    )


class Line:
    """A server that gives these answers in turn, the last one from then on; None hangs up."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes] | None] = [GOOD]
        self.asked: list[tuple[float, str, bytes, dict[str, str]]] = []
        self.drip_s = 0.0
        line = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                line.asked.append((time.monotonic(), self.path, body, dict(self.headers)))
                answer = line.answers[min(len(line.asked), len(line.answers)) - 1]
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    for byte in content if line.drip_s else [content]:
                        self.wfile.write(bytes([byte]) if line.drip_s else content)
                        self.wfile.flush()
                        time.sleep(line.drip_s)
                except OSError:
                    self.close_connection = True  # the client has gone, as it should

            def log_message(self, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    thread = threading.Thread(target=line.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield line
    line.server.shutdown()
    thread.join()
    line.server.server_close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)


Ask = Callable[..., Prediction]


def _ask(url: str, picture: Any = b"picture", asked: dict | None = None, **settings) -> Prediction:
    with Client(url, "plates", **settings) as client:
        return client.inspect(picture, **asked or {})


def _ask_async(url: str, picture: Any = b"picture", asked: dict | None = None, **settings) -> Prediction:
    async def ask() -> Prediction:
        async with AsyncClient(url, "plates", **settings) as client:
            return await client.inspect(picture, **asked or {})

    return asyncio.run(ask())


def _roi(url: str, version: str = "", **settings) -> bytes | None:
    with Client(url, "my plates", **settings) as client:
        return client.roi(version)


def _roi_async(url: str, version: str = "", **settings) -> bytes | None:
    async def ask() -> bytes | None:
        async with AsyncClient(url, "my plates", **settings) as client:
            return await client.roi(version)

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [_roi, _roi_async], ids=["sync", "async"])
def test_the_region_of_interest_is_asked_for(line, ask):
    line.answers = [
        (200, {"Content-Type": "image/png"}, b"picture"),
        (204, {}, b""),
        # Of another version or an older endpoint, and a gateway's page.
        (404, {"Content-Type": "application/json"}, b"{}"),
        (200, {"Content-Type": "text/html"}, b"Log in"),
    ]
    assert ask(line.url, headers={"Authorization": "Bearer x"}) == b"picture"
    assert [ask(line.url, "v1/2") for _ in range(3)] == [None] * 3
    assert [path for _, path, _, _ in line.asked[:2]] == [
        "/v2/models/my%20plates/roi",
        "/v2/models/my%20plates/versions/v1%2F2/roi",
    ]
    assert line.asked[0][3]["Authorization"] == "Bearer x"
    with pytest.raises(Unavailable, match="does not answer"):
        ask(f"http://127.0.0.1:{free_port()}")


both = pytest.mark.parametrize("ask", [_ask, _ask_async], ids=["sync", "async"])


@both
def test_bytes_and_files_are_sent_as_they_are(line, ask: Ask, tmp_path):
    (tmp_path / "a.png").write_bytes(b"of a file")
    found = ask(line.url + "/behind/a/prefix/", tmp_path / "a.png", headers={"Authorization": "Bearer x"})
    # What an endpoint of one class of defects does not send is None.
    assert found.model_dump() == json.loads(json.dumps(PREDICTION)) | {
        "class_areas_px": None,
        "regions": found.model_dump()["regions"],
    }
    assert found.regions[0].bbox == (1, 2, 3, 4)
    assert found.of_a_newer_server == 7
    ((_, path, body, headers),) = line.asked
    assert (path, body) == ("/behind/a/prefix/v1/models/plates:predict", b"of a file")
    assert (headers["Content-Type"], headers["Authorization"]) == ("image/*", "Bearer x")
    assert ask(line.url).verdict == "NG"
    assert line.asked[1][2] == b"picture"


@both
def test_what_the_endpoint_is_asked_for(line, ask: Ask):
    ask(line.url, asked={"mask": False, "threshold": 0.25, "request_id": "line-3.42", "review": False})
    query = "mask=none&threshold=0.25&request_id=line-3.42&review=false"
    assert line.asked[0][1].endswith(f"plates:predict?{query}")


@both
def test_what_a_picture_may_be(line, ask: Ask):
    for picture in (bytearray(b"of a camera"), memoryview(b"of a camera")):
        ask(line.url, picture)
        assert line.asked[-1][2] == b"of a camera"
    for picture in ("plate.png", None, np.zeros((4, 4))):
        with pytest.raises(TypeError, match=r"pathlib\.Path or a file's bytes"):
            ask(line.url, picture)
    with pytest.raises(TypeError, match="mask is True or False, not 'png'"):
        ask(line.url, asked={"mask": "png"})
    with pytest.raises(TypeError, match="review is True, False or None, not 'no'"):
        ask(line.url, asked={"review": "no"})
    assert len(line.asked) == 2


def test_names_are_quoted(line):
    with Client(line.url, "a/b c") as client:
        client.inspect(b"")
    assert line.asked[0][1] == "/v1/models/a%2Fb%20c:predict"


@both
def test_older_servers_without_grade_and_mask(line, ask: Ask):
    short = {name: value for name, value in PREDICTION.items() if name not in ("grade", "mask_png")}
    line.answers = [(200, {}, json.dumps({"predictions": [short]}).encode())]
    found = ask(line.url)
    assert (found.grade, found.mask_png) == (None, None)


@both
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_endpoint_is_asked_again(line, ask: Ask, status):
    line.answers = [busy(status), busy(status), GOOD]
    assert ask(line.url).verdict == "NG"
    assert len(line.asked) == 3
    assert {body for _, _, body, _ in line.asked} == {b"picture"}


@both
def test_a_connection_that_breaks_is_made_again(line, ask: Ask):
    line.answers = [None, None, GOOD]
    assert ask(line.url).verdict == "NG"
    assert len(line.asked) == 3


@both
def test_retries_end(line, ask: Ask):
    line.answers = [busy()]
    with pytest.raises(Unavailable, match="too busy") as caught:
        ask(line.url, retries=2)
    assert len(line.asked) == 3
    assert caught.value.got == "HTTP 503: the queue is full (request r7)"


@both
def test_the_server_says_when_to_come_back(line, ask: Ask):
    line.answers = [busy(Retry_After="1"), GOOD]
    ask(line.url)
    assert line.asked[1][0] - line.asked[0][0] >= 1


@both
def test_nobody_waits_past_the_deadline(line, ask: Ask):
    line.answers = [busy(Retry_After="3600")]
    with pytest.raises(Unavailable, match="too busy"):
        ask(line.url)
    assert len(line.asked) == 1


@both
def test_an_answer_that_comes_too_slowly_is_given_up(line, ask: Ask):
    # Each byte comes in time, the whole would take minutes.
    line.drip_s = 0.2
    with pytest.raises(Unavailable, match="does not answer"):
        ask(line.url, timeout_s=0.5, retries=0)


@both
def test_nobody_is_there(ask: Ask):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="does not answer") as caught:
        ask(url, retries=1)
    assert "ConnectError" in caught.value.got


@both
@pytest.mark.parametrize("status", [400, 413, 415, 422])
@pytest.mark.parametrize(
    "body", [b'{"error": "no picture"}', b'{"error": {"message": "no picture"}}', b"no picture"]
)
def test_bad_pictures_are_refused_at_once(line, ask: Ask, status, body, tmp_path):
    line.answers = [(status, {}, body)]
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(Refused, match=r"does not accept .*a\.png") as caught:
        ask(line.url, tmp_path / "a.png")
    assert caught.value.got == f"HTTP {status}: no picture"
    assert len(line.asked) == 1


@both
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {}, b'{"error": "Model with name plates does not exist."}'), "There is no model plates"),
        ((500, {}, b'{"error": "boom"}'), "fails"),
        (
            (400, {}, b'{"error": {"code": "invalid_request", "message": "threshold"}}'),
            "parameters that were sent",
        ),
        ((302, {"Location": "/login"}, b""), "refuses access"),
        ((403, {}, b"RBAC: access denied"), "refuses access"),
        ((200, {}, b"<html>Welcome</html>"), "gives no prediction"),
        ((200, {}, b"\xff"), "gives no prediction"),
        ((200, {}, b'{"predictions": []}'), "gives no prediction"),
        ((200, {}, b'{"predictions": [{"verdict": "maybe"}]}'), "gives no prediction"),
        ((200, {}, b"[]"), "gives no prediction"),
    ],
)
def test_other_answers_are_told_in_words_and_not_repeated(line, ask: Ask, answer, says):
    line.answers = [answer]
    with pytest.raises(ServingError, match=says) as caught:
        ask(line.url)
    assert not isinstance(caught.value, Refused)
    assert len(line.asked) == 1
    assert all((caught.value.got, caught.value.expected, caught.value.fix))


@both
@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_url(ask: Ask, url):
    with pytest.raises(SettingsError, match="URL cannot be used"):
        ask(url)


@both
def test_a_file_that_is_missing(line, ask: Ask, tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        ask(line.url, tmp_path / "missing.png")
    assert line.asked == []


def test_threads_share_a_client(line):
    with Client(line.url, "plates") as client:
        threads = [threading.Thread(target=client.inspect, args=(bytes([n]),)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(body for _, _, body, _ in line.asked) == [bytes([n]) for n in range(20)]


def test_many_at_once_with_asyncio(line):
    async def ask() -> list[Prediction]:
        async with AsyncClient(line.url, "plates") as client:
            return await asyncio.gather(*(client.inspect(bytes([n])) for n in range(20)))

    assert [found.verdict for found in asyncio.run(ask())] == ["NG"] * 20
    assert sorted(body for _, _, body, _ in line.asked) == [bytes([n]) for n in range(20)]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "http://line:99999"}, "URL cannot be used"),
        ({"url": None}, "URL cannot be used"),
        ({"timeout_s": 0}, "timeout_s cannot be used"),
        ({"timeout_s": -1.0}, "timeout_s cannot be used"),
        ({"timeout_s": float("nan")}, "timeout_s cannot be used"),
        ({"timeout_s": "10"}, "timeout_s cannot be used"),
        ({"retries": -1}, "retries cannot be used"),
        ({"retries": 1.5}, "retries cannot be used"),
        ({"deadline_s": -1}, "deadline_s cannot be used"),
        ({"headers": {"X-Line": "Straße"}}, "header 'X-Line' cannot be sent"),
        ({"headers": {"X-Line": "a\r\nHost: b"}}, "header 'X-Line' cannot be sent"),
        ({"headers": {"X-Line": 3}}, "header 'X-Line' cannot be sent"),
    ],
)
def test_arguments_with_which_no_request_could_be_sent(kind: type, given: dict[str, Any], says: str):
    with pytest.raises(SettingsError, match=says) as caught:
        kind(**{"url": "http://localhost", **given})
    # A header's value may be a secret.
    assert "Straße" not in str(caught.value)
