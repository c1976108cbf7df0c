"""Who may ask, and how often."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import grpc
import pytest
import requests
from endpoints import PREDICT, Running, plate, serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from playwright.sync_api import Browser, expect
from tensors import infer_request

from defectline.client import Client, ServingError
from defectline.components.common.errors import SettingsError
from defectline.components.serve.protocol.door import Door, Rates, Tokens, read_tokens
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.sdk import messages

LINE, OTHER, METRICS = "line-token-0123456789", "other-token-0123456789", "metrics-token-0123456789"
PNG = plate()
SERVICE = "/inference.GRPCInferenceService/"
CALLS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
OPEN_CALLS = CALLS[:3]
PATHS = (
    "/",
    "/v1/models",
    "/v1/models/plates",
    PREDICT,
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/plates",
    "/v2/models/plates/ready",
    "/v2/models/plates/versions/{version}",
    "/v2/models/plates/versions/{version}/ready",
    "/v2/models/plates/roi",
    "/v2/models/plates/versions/{version}/roi",
    "/v2/models/plates/infer",
    "/v2/models/plates/versions/{version}/infer",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/nothing",
    "/nothing/ready",
    "/v1/models/plates/ready",
    "/v1/models/plates:explain",
    "/metrics/",
)
HEALTH = (
    "/",
    "/v1/models/plates",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/plates/ready",
    "/v2/models/plates/versions/{version}/ready",
)
NAMED = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *NAMED]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class Guarded(NamedTuple):
    running: Running
    file: Path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "tokens"
    file.write_text(f"# line systems\n{LINE}\n{METRICS} metrics  # Prometheus\n")
    with serving(model, folder / "log", "--token_file", str(file)) as running:
        yield Guarded(running, file)


@pytest.fixture(scope="module")
def closed(model, tmp_path_factory) -> Iterator[Running]:
    """As `guarded`, for health and metrics as well."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "tokens").write_text(f"{LINE}\n{METRICS} metrics\n")
    options = ["--token_file", str(folder / "tokens"), "--guard", "health", "--guard", "metrics"]
    with serving(model, folder / "log", *options, headers=bearer(LINE)) as running:
        yield running


def _answered(url: str, method: str, path: str, version: str, **more) -> requests.Response:
    return requests.request(method, url + path.format(version=version), timeout=60, **more)


def test_nothing_is_open_that_should_not_be(guarded, judged):
    url, version = guarded.running.url, judged.bundle.version
    opened = set()
    for path, method in itertools.product(PATHS, METHODS):
        data = PNG if method == "POST" else None
        answered = _answered(url, method, path, version, data=data)
        if answered.status_code != 401:
            opened.add((path, method, answered.status_code))
        elif method != "HEAD":
            assert answered.headers["www-authenticate"] == "Bearer"
            assert "unauthenticated" in answered.text
    reading = ("GET", "HEAD")
    assert {(path, method) for path, method, _ in opened} == set(
        itertools.product((*HEALTH, "/metrics"), reading)
    )


def test_with_guards_nothing_is_open_but_the_page(closed, judged):
    version = judged.bundle.version
    for path, method in itertools.product(PATHS, METHODS):
        assert _answered(closed.url, method, path, version).status_code == 401, (path, method)
    page = requests.get(closed.url, headers={"accept": "text/html"}, timeout=60)
    assert (page.status_code, "text/html" in page.headers["content-type"]) == (200, True)
    for path in HEALTH:
        assert _answered(closed.url, "GET", path, version, headers=bearer(LINE)).status_code == 200
    assert requests.get(closed.url + "/metrics", headers=bearer(METRICS), timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (f"Bearer {LINE}", 200, None),
        (f"bearer   {LINE} ", 200, None),
        (f"Bearer {METRICS}", 403, "forbidden"),
        (f"Bearer {OTHER}", 401, "unauthenticated"),
        (f"Bearer {LINE}x", 401, "unauthenticated"),
        (f"Bearer {LINE[:-1]}", 401, "unauthenticated"),
        (f"Basic {LINE}", 401, "unauthenticated"),
        (LINE, 401, "unauthenticated"),
        ("Bearer", 401, "unauthenticated"),
        ("Bearer \xff\xfe", 401, "unauthenticated"),
        ("", 401, "unauthenticated"),
    ],
)
def test_only_a_token_of_the_file_opens(guarded, authorization, status, code):
    headers = {"Authorization": authorization.encode("latin-1"), "content-type": "image/png"}
    answered = requests.post(guarded.running.url + PREDICT, PNG, headers=headers, timeout=60)
    assert answered.status_code == status
    if code:
        error = answered.json()["error"]
        assert error["code"] == code
        assert LINE not in answered.text


def test_a_token_in_the_address_opens_nothing_and_is_not_logged(guarded):
    url = f"{guarded.running.url}{PREDICT}?access_token={LINE}&token={LINE}"
    headers = {"content-type": "image/png", "x-request-id": "address"}
    assert requests.post(url, PNG, headers=headers, timeout=60).status_code == 401
    headers = bearer(LINE) | {"x-request-id": "header"}
    requests.post(guarded.running.url + PREDICT, PNG, headers=headers, timeout=60)
    assert guarded.running.request("address")
    assert guarded.running.request("header")
    log = guarded.running.log.read_text()
    assert "unauthenticated" in log
    assert LINE not in log
    assert METRICS not in log


def test_a_large_body_is_not_read_for_a_stranger(guarded):
    """Its sender gets the answer all the same."""
    url = guarded.running.url + PREDICT
    answered = requests.post(url, bytes(30_000_000), headers={"x-request-id": "large"}, timeout=60)
    assert answered.status_code == 401
    assert "received_bytes" not in guarded.running.request("large")


def _call(address: str, name: str, token: str = "") -> grpc.StatusCode:
    request = infer_request(PNG) if name == "ModelInfer" else getattr(messages, f"{name}Request")()
    if name in ("ModelReady", "ModelMetadata"):
        request.name = "plates"
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(SERVICE + name)(request.SerializeToString(), timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_tokens_over_grpc(guarded, closed):
    ok, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
    for name in CALLS:
        assert _call(guarded.running.grpc, name, LINE) == ok
        assert _call(guarded.running.grpc, name) == (ok if name in OPEN_CALLS else refused)
        assert _call(closed.grpc, name) == refused
        assert _call(closed.grpc, name, LINE) == ok
    assert _call(guarded.running.grpc, "ModelInfer", METRICS) == grpc.StatusCode.PERMISSION_DENIED
    assert _health(guarded.running.grpc, "Check") == _health(closed.grpc, "Check", LINE) == ok
    assert _health(closed.grpc, "Check") == _health(closed.grpc, "Watch") == refused


def _health(address: str, call: Literal["Check", "Watch"], token: str = "") -> grpc.StatusCode:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        ask = getattr(health_pb2_grpc.HealthStub(channel), call)
        try:
            answered = ask(health_pb2.HealthCheckRequest(), timeout=60, metadata=metadata)
            if call == "Watch":
                next(iter(answered))
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_tokens_change_without_a_restart(model, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(LINE)

    def may(token: str) -> bool:
        answered = requests.post(running.url + PREDICT, PNG, headers=bearer(token), timeout=60)
        assert answered.status_code in (200, 401)
        return answered.status_code == 200

    with serving(model, tmp_path / "log", "--token_file", str(file)) as running:
        assert (may(LINE), may(OTHER)) == (True, False)
        for content, line, other in ((f"{LINE}\n{OTHER}", True, True), (OTHER, False, True)):
            (tmp_path / "next").write_text(content)
            os.replace(tmp_path / "next", file)
            time.sleep(1.1)
            assert (may(LINE), may(OTHER)) == (line, other)
        for damage in (lambda: file.write_text("short"), file.unlink):
            damage()
            time.sleep(1.1)
            # Nobody is locked out, and nobody let in.
            assert (may(LINE), may(OTHER)) == (False, True)
        assert len(running.lines("tokens cannot be read again; the present ones stay")) == 2
        assert "short" not in running.log.read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no token"),
        ("# nobody\n\n", "no token"),
        (f"{LINE}\nshort\n", "line 2 has 5 characters"),
        (f"{LINE} everything", "line 1 has something else"),
        (f"{LINE} metrics too", "line 1 has something else"),
        ("token-with-ümlaut-0123", "none of a token's"),
        (b"\xff\xfe0123456789abcdef", "bytes that are not text"),
        (None, "No such file"),
    ],
)
def test_a_file_without_tokens_is_refused(tmp_path, content, says):
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as refused:
        Tokens(file)
    assert says in str(refused.value)
    assert "0123456789" not in str(refused.value)


def test_what_is_kept_of_a_token_opens_nothing(tmp_path):
    (tmp_path / "tokens").write_text(f"{LINE}\r\n{METRICS}\tmetrics\r\n")
    tokens = read_tokens(tmp_path / "tokens")
    assert [token.right for token in tokens] == ["all", "metrics"]
    assert LINE not in repr(vars(Tokens(tmp_path / "tokens")))


def test_each_client_may_ask_so_often():
    rates = Rates(2)
    for now in (10.0, 10.0, 10.5, 11.0):
        rates.check("a", now)
    with pytest.raises(ApiError) as refused:
        rates.check("a", 11.1)
    assert (refused.value.http, refused.value.retry_after_s) == (429, 1)
    rates.check("b", 11.1)
    for now in (20.0, 20.0):
        rates.check("a", now)
    with pytest.raises(ApiError):
        rates.check("a", 20.0)
    # A rate below one a second lets the first one pass as well.
    Rates(0.1).check("a", 0.0)


def test_health_and_metrics_are_not_counted():
    door = Door(rates=Rates(1))
    for _ in range(5):
        door.let_in(None, "a", "health")
    door.let_in(None, "a", None, asks=True)
    with pytest.raises(ApiError):
        door.let_in(None, "a", None, asks=True)


def test_a_client_that_asks_too_often_is_told_when_to_come_back(model, tmp_path):
    with serving(model, tmp_path / "log", "--rate", "1") as running:
        answered = [requests.post(running.url + PREDICT, PNG, timeout=60) for _ in range(4)]
        late = [one for one in answered if one.status_code == 429]
        assert answered[0].status_code == 200
        assert late
        assert late[0].headers["retry-after"] == "1"
        assert late[0].json()["error"]["code"] == "too_many_requests"
        assert requests.get(running.url + "/v2/health/ready", timeout=60).status_code == 200
        # The client waits as it is told.
        with Client(running.url, "plates") as client:
            assert {client.inspect(PNG).verdict for _ in range(2)} == {"NG"}


def test_guards_without_tokens_are_refused(model):
    command = ["--model_dir", str(model), "--guard", "health"]
    ended = subprocess.run(
        [sys.executable, "-m", "defectline.components.serve", *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert "--token_file" in ended.stderr


def test_the_client_sends_the_first_token_of_a_file(guarded, tmp_path):
    with Client(guarded.running.url, "plates", token_file=guarded.file) as client:
        assert client.inspect(PNG).verdict == "NG"
        assert LINE not in repr(client)
    (tmp_path / "none").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="no token"):
        Client(guarded.running.url, "plates", token_file=tmp_path / "none")
    with Client(guarded.running.url, "plates") as client, pytest.raises(ServingError, match="--token-file"):
        client.inspect(PNG)


def test_the_description_tells_of_tokens(guarded, served):
    asked = requests.get(f"{guarded.running.url}/openapi.json", headers=bearer(LINE), timeout=60).json()
    assert asked["security"] == [{"token": []}]
    assert asked["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    assert requests.get(f"{served.url}/openapi.json", timeout=60).json()["security"] == []


def test_the_page_asks_for_the_token(guarded, browser: Browser, tmp_path):
    (tmp_path / "plate.png").write_bytes(PNG)
    page = browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(guarded.running.url)
    page.set_input_files("#file", tmp_path / "plate.png")
    expect(page.locator("#what")).to_contain_text("This endpoint asks for a token.")
    page.locator("#token").fill(OTHER)
    page.locator("#token").press("Enter")
    expect(page.locator("#what")).to_contain_text("The token is not valid.")
    page.locator("#token").fill(LINE)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/token.png")
    page.locator("#token").press("Enter")
    expect(page.locator("#word")).to_have_text("NG")
    assert LINE not in page.url
    page.reload()
    page.set_input_files("#file", tmp_path / "plate.png")
    expect(page.locator("#word")).to_have_text("NG")
    page.close()


def test_https_on_one_address(model, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [*OPENSSL, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    options = ["--ssl_certfile", str(certificate), "--ssl_keyfile", str(key), "--address", "127.0.0.1"]
    with serving(model, tmp_path / "log", *options, verify=certificate) as running:
        assert running.url.startswith("https://")
        answered = requests.post(running.url + PREDICT, PNG, verify=certificate, timeout=60)
        assert json.loads(answered.text)["predictions"][0]["verdict"] == "NG"
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(running.url, timeout=60)
