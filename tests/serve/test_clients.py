"""The clients that people have, against a server that runs."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from endpoints import PREDICT, error_of, plate, post, serving, v1_body
from grpc_health.v1 import health_pb2, health_pb2_grpc
from paths import ROOT, SUPPORT
from pictures import encode

PNG = plate()


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "plate.png"
    file.write_bytes(PNG)
    return file


@pytest.fixture(scope="module")
def expected(served) -> dict:
    return post(served.url + PREDICT, PNG, "image/png").json()["predictions"][0]


def test_java_offers_http_2_and_gets_its_answer(served, picture, expected):
    if not shutil.which("javac"):
        pytest.skip("no JDK, to run a Java program with")
    asked = subprocess.run(
        ["java", "-Xshare:auto", SUPPORT / "Ask.java", served.url + PREDICT, picture],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    status, _, body = asked.stdout.partition(" ")
    assert status == "200", asked.stdout
    assert json.loads(body)["predictions"][0]["score"] == expected["score"]


@pytest.mark.parametrize("option", ["--http1.1", "--http2"])
def test_curl(served, picture, expected, option):
    if not shutil.which("curl"):
        pytest.skip("no curl")
    command = ["curl", "--silent", "--fail", option, "--header", "Content-Type: image/png"]
    asked = subprocess.run(
        [*command, "--data-binary", f"@{picture}", served.url + PREDICT],
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert json.loads(asked.stdout)["predictions"][0]["score"] == expected["score"]


@pytest.fixture(scope="module")
def triton_python(tmp_path_factory) -> Path:
    """A Python with Triton's client, whose packages need an environment of their own."""
    home, uv = tmp_path_factory.mktemp("triton") / "environment", Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("no uv beside Python, to install Triton's client with")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", home / "bin/python", "--require-hashes"]
    subprocess.run([*install, "--requirement", ROOT / "requirements/triton-client.txt"], check=True)
    return home / "bin/python"


def test_tritonclient(served, picture, expected, triton_python):
    http = served.url.removeprefix("http://")
    asked = subprocess.run(
        [triton_python, SUPPORT / "triton_client.py", http, served.grpc, picture],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    assert len(found) == 6
    even = post(served.url + PREDICT, encode(np.full((64, 64), 100, np.uint8)), "image/png").json()
    even = even["predictions"][0]
    for kind in ("tritonclient.http", "tritonclient.grpc"):
        assert found[f"{kind} file"] == [expected["verdict"], expected["score"]]
        assert found[f"{kind} pixels"] == [even["verdict"], even["score"]]
        assert "not a picture" in found[f"{kind} error"]


def test_what_was_ignored_is_told(served):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [8, 8, 1], "data": [100] * 64}
    asked = {"inputs": [tensor], "parameters": {"timeout": 5, "priority": 1}}
    answer = requests.post(f"{served.url}/v2/models/plates/infer", json=asked, timeout=60).json()
    assert answer["parameters"] == {"ignored": "timeout, priority"}


def test_kserves_client_asks_whether_the_server_is_alive(served):
    # As kserve.InferenceRESTClient does with V1; browsers get the page.
    assert requests.get(served.url + "/", timeout=60).json() == {"status": "alive"}
    page = requests.get(served.url + "/", headers={"Accept": "text/html,*/*"}, timeout=60)
    assert page.headers["content-type"].startswith("text/html")


def test_grpcs_own_health_service(served):
    with grpc.insecure_channel(served.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            found = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert found.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=60)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()


def test_a_channel_that_pings_every_second_is_kept(served):
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(served.grpc, options) as channel:
        channel.subscribe(states.append)
        grpc.channel_ready_future(channel).result(60)
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        # The third ping too many would end it with "too_many_pings".
        time.sleep(6)
        health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states
        assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_a_trace_is_taken_up_in_the_log(served):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    for value in (f"00-{trace_id}-00f067aa0ba902b7-01", "nonsense"):
        headers = {"traceparent": value, "content-type": "image/png", "x-request-id": f"traced-{value[:2]}"}
        requests.post(served.url + PREDICT, PNG, headers=headers, timeout=60)
    assert served.request("traced-00")["trace_id"] == trace_id
    assert "trace_id" not in served.request("traced-no")


# Pages of other origins


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>The line</title>")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


ASK = """async ([url, body]) => {
    try {
        const headers = {"content-type": "application/json", "x-request-id": "from-a-page"};
        const answer = await fetch(url, {method: "POST", headers, body});
        return [answer.status, answer.headers.get("x-request-id")];
    } catch (error) { return [0, String(error)]; }
}"""


def test_a_page_of_another_origin_may_ask_where_it_is_named(browser, served, model, origin, tmp_path):
    body = json.dumps(v1_body(PNG))
    tab = browser.new_page()
    tab.goto(origin)
    status, said = tab.evaluate(ASK, [served.url + PREDICT, body])
    assert (status, "Failed to fetch" in said) == (0, True)
    with serving(model, tmp_path / "log", "--cors", origin) as running:
        assert tab.evaluate(ASK, [running.url + PREDICT, body]) == [200, "from-a-page"]
        other = requests.post(running.url + PREDICT, PNG, headers={"Origin": "http://other"}, timeout=60)
        assert "access-control-allow-origin" not in other.headers
        assert error_of(requests.get(f"{running.url}/v2/models/other", timeout=60))["code"] == "not_found"
    tab.close()
