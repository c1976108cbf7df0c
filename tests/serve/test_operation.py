"""The endpoint in operation: limits, overload, its end, another model, what it tells of itself."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from endpoints import (
    START_S,
    Running,
    command,
    error_of,
    expected,
    plate,
    post,
    process_of,
    serving,
    v1_body,
    v2_body,
    wait_until_ready,
)
from fuzz import Caller, bomb, cases
from networks import Judged, judge_model
from pictures import encode
from servers import free_port

from defectline.client.client import Client, Prediction
from defectline.components.common import checksums
from defectline.components.common.bundle import copy_served, publish_folder
from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord
from defectline.components.common.storage import open_storage
from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol.rest import Limits, make_app
from defectline.components.serve.sdk import messages
from defectline.components.serve.settings import ServeSettings
from defectline.components.serve.sources import Folder

PNG = plate()
PREDICT = "/v1/models/plates:predict"


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


@pytest.fixture(scope="module")
def model(judged, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_served(judged.folder, folder)
    return folder


@pytest.fixture(scope="module")
def served(model, tmp_path_factory) -> Iterator[Running]:
    with serving(model, tmp_path_factory.mktemp("log") / "log", "--alias", "imagesegmodel") as running:
        yield running


def other_version(model: Path, target: Path, version: str) -> Path:
    """A copy that has another version."""
    shutil.copytree(model, target)
    content = json.loads((target / "bundle.json").read_text())
    (target / "bundle.json").write_text(json.dumps(content | {"version": version}))
    checksums.seal(target)
    return target


def infer(address: str, *pictures: bytes) -> messages.ModelInferResponse:
    request = messages.ModelInferRequest(model_name="plates")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
    tensor.contents.bytes_contents.extend(pictures)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return messages.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=60))


def _refusal(address: str, picture: bytes) -> grpc.RpcError | None:
    try:
        infer(address, picture)
    except grpc.RpcError as error:
        return error
    return None


def version_of(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]["model_version"]


# Limits and overload


@pytest.fixture(scope="module")
def narrow(model, tmp_path_factory) -> Iterator[Running]:
    """One thread, one place in the queue, small bodies and pictures."""
    limits = ["--max_mb", "1", "--max_megapixels", "9", "--queue", "1", "--threads", "1"]
    with serving(model, tmp_path_factory.mktemp("log") / "log", *limits) as running:
        yield running


@pytest.mark.parametrize("path", [PREDICT, "/v2/models/plates/infer"])
@pytest.mark.parametrize("how", ["with its length", "in chunks"])
def test_a_body_that_is_too_large(narrow, path, how):
    data = bytes(3_000_000)
    body = data if how == "with its length" else iter([data[:500_000]] * 6)
    response = requests.post(
        narrow.url + path, data=body, headers={"content-type": "application/octet-stream"}, timeout=30
    )
    assert response.status_code == 413
    assert "at most 1 MB" in error_of(response)["message"]


def test_a_picture_that_is_too_large(narrow):
    for body, content_type in [
        (encode(np.zeros((3000, 3001), np.uint8)), "image/png"),
        (bomb(60_000, 60_000), "image/png"),
        (v1_body(PNG, bomb(3000, 3001)), None),
    ]:
        response = post(narrow.url + PREDICT, body, content_type)
        assert response.status_code == 413
        assert "at most 9 megapixels" in error_of(response)["message"]


@pytest.mark.parametrize("body", [bomb(60_000, 60_000), bytes(3_000_000)], ids=["pixels", "bytes"])
def test_too_large_over_grpc(narrow, body):
    with pytest.raises(grpc.RpcError) as raised:
        infer(narrow.grpc, body)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed_bodies_are_refused(narrow):
    response = post(narrow.url + PREDICT, PNG, "image/png", headers={"content-encoding": "gzip"})
    assert response.status_code == 415


async def _ask(app: Any, receive: Callable[[], Awaitable[dict[str, Any]]]) -> list[Any]:
    """What an app in this process sends for a body that is received so."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"image/png"), (b"content-length", b"500")]
    scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "headers": headers}
    await app({**scope, "root_path": "", "http_version": "1.1"}, receive, send)
    return sent


def test_a_body_that_does_not_come(model):
    served = DefectModel("plates", model)
    served.load()
    app = make_app(served, Limits(1000, body_s=0.05))
    coming = iter([{"type": "http.request", "body": b"a", "more_body": True}])

    async def receive() -> dict[str, Any]:
        last = {"type": "http.request", "body": b"", "more_body": False}
        return next(coming, None) or await asyncio.sleep(0.2, last)

    sent = asyncio.run(_ask(app, receive))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_timeout"


def test_bodies_that_do_not_come_to_their_end_fill_no_memory(model):
    """Two of 900 bytes fit into the room of two of 1000; their senders go away in the end. A small one has
    room all the while."""
    served = DefectModel("plates", model)
    served.load()
    app = make_app(served, Limits(1000))

    async def scenario() -> list[int]:
        gone, statuses = asyncio.Event(), []

        async def ask(more: bool, size: int = 900) -> list[Any]:
            parts = iter([{"type": "http.request", "body": bytes(size), "more_body": more}])

            async def receive() -> dict[str, Any]:
                if (part := next(parts, None)) is not None:
                    return part
                await gone.wait()
                return {"type": "http.disconnect"}

            return await _ask(app, receive)

        slow = [asyncio.create_task(ask(True)) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await ask(False)
        assert json.loads(refused[1]["body"])["error"]["code"] == "overloaded"
        statuses += [refused[0]["status"], (await ask(False, 10))[0]["status"]]
        gone.set()
        await asyncio.gather(*slow)
        statuses += [(await ask(False))[0]["status"] for _ in range(3)]
        return statuses

    # Zeros are no picture.
    assert asyncio.run(scenario()) == [503, 400, 400, 400, 400]


def test_overload_is_answered_at_once_and_health_all_the_while(narrow, judged):
    # Nine megapixels take long enough for the others to come meanwhile.
    large = encode(np.full((3000, 3000), 100, np.uint8))
    says = expected(judged, large)
    done, health = threading.Event(), Counter[int]()

    def probe() -> None:
        while not done.is_set():
            health[requests.get(f"{narrow.url}/v2/models/plates/ready", timeout=30).status_code] += 1

    with ThreadPoolExecutor(11) as pool:
        probing = pool.submit(probe)
        asked = [pool.submit(post, narrow.url + PREDICT, large, "image/png") for _ in range(8)]
        refused = next(filter(None, (_refusal(narrow.grpc, large) for _ in range(1000))))
        answers = [request.result() for request in asked]
        done.set()
        probing.result()
    assert refused.code() == grpc.StatusCode.UNAVAILABLE
    assert ("retry-after", "1") in [tuple(pair) for pair in refused.trailing_metadata()]
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert error_of(answer)["code"] == "overloaded"
            assert answer.headers["retry-after"] == "1"
        else:
            (prediction,) = answer.json()["predictions"]
            assert {key: prediction[key] for key in says} == says
    assert set(health) == {200}
    assert version_of(post(narrow.url + PREDICT, PNG, "image/png")) == judged.bundle.version


# What must be refused


def test_nothing_that_is_sent_is_a_fault_of_the_server(served):
    caller = Caller(served.url, served.grpc)
    first = caller.judge(PNG)
    kinds = Counter[str]()
    for number, case in zip(range(500), cases(seed=7), strict=False):
        caller.send(case)
        kinds[f"{case.path[:4]} {case.what}"] += 1
        if number % 25 == 0:
            assert caller.judge(PNG) == first
    assert len(kinds) > 12, kinds
    assert caller.judge(PNG) == first
    caller.close()


def test_a_fault_of_the_server_tells_nothing_of_it(model):
    served = DefectModel("plates", model)
    served.load()

    def broken(image: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret at /etc/passwd")

    served.loaded.network.score_map_of = broken  # type: ignore[union-attr, method-assign]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": PNG}

    sent = asyncio.run(_ask(make_app(served, Limits(10**7)), receive))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal"
    assert b"secret" not in sent[1]["body"]


# The end


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_was_accepted_is_answered_after_sigterm(model, tmp_path, protocol):
    answered, refused, told = Counter[str](), Counter[str](), threading.Event()
    with serving(model, tmp_path / "log", "--drain_ms", "300", "--queue", "64") as running:

        def ask_http() -> None:
            while True:
                try:
                    response = post(running.url + PREDICT, PNG, "image/png")
                except requests.ConnectionError:
                    refused["connection"] += 1
                    return
                answered[str(response.status_code)] += 1

        def ask_grpc() -> None:
            while True:
                try:
                    infer(running.grpc, PNG)
                except grpc.RpcError as error:
                    refused[error.code().name] += 1
                    return
                answered["OK"] += 1

        ready = []
        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask_http if protocol == "http" else ask_grpc) for _ in range(6)]
            while sum(answered.values()) < 20:
                assert not any(task.done() for task in asking), (refused, running.log.read_text())
                time.sleep(0.01)
            running.process.send_signal(signal.SIGTERM)
            running.wait_for("draining")
            try:
                ready.append(requests.get(f"{running.url}/v2/health/ready", timeout=5))
            except requests.ConnectionError:
                told.set()  # So slow a machine that the port is closed already.
            for task in asking:
                task.result()
        assert running.process.wait(START_S) == 0
        if not told.is_set():
            assert ready[0].status_code == 503
            assert ready[0].headers["connection"] == "close"
            assert "shutting down" in error_of(ready[0])["message"]
        # Whatever the server has answered has arrived; it has begun nothing that it did not answer.
        done = Counter(str(line["status"]) for line in running.lines())
        assert done == answered
        assert set(answered) == {"200" if protocol == "http" else "OK"}
        # CANCELLED is what gRPC says of calls that reach a server as it stops and that it did not begin.
        assert set(refused) <= {"connection", "UNAVAILABLE", "CANCELLED"}
        assert running.lines("ended")


def test_an_endpoint_that_is_killed_and_started_again_loses_no_verdict(judged, model, tmp_path):
    url = f"http://127.0.0.1:{(port := free_port())}"
    pictures = [plate(seed, "NG" if seed % 2 else "OK") for seed in range(6)]
    answered: list[tuple[int, Prediction]] = []

    def ask(number: int) -> None:
        with Client(url, "plates", retries=1000, deadline_s=START_S) as client:
            for turn in range(20):
                index = (number + turn) % len(pictures)
                answered.append((index, client.inspect(pictures[index])))

    with ThreadPoolExecutor(4) as pool:
        with process_of(command(model, port), tmp_path / "first") as process:
            wait_until_ready(process, url, "plates", tmp_path / "first")
            asking = [pool.submit(ask, number) for number in range(4)]
            while len(answered) < 20:
                assert not any(task.done() for task in asking)
                time.sleep(0.01)
            process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not all(task.done() for task in asking)
        with process_of(command(model, port), tmp_path / "second"):
            for task in asking:
                task.result()
    assert len(answered) == 80
    wanted = [expected(judged, picture) for picture in pictures]
    assert {found.verdict for _, found in answered} == {"OK", "NG"}
    for index, found in answered:
        assert (found.verdict, found.score) == (wanted[index]["verdict"], wanted[index]["score"])


def test_a_bundle_that_cannot_be_served_is_told_to_kubernetes(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model/openvino/model.bin").write_bytes(b"")
    (tmp_path / "reason").write_text("")
    code = (
        "import sys, pathlib, defectline.components.serve.__main__ as main;"
        "main.TERMINATION_LOG = pathlib.Path(sys.argv.pop(1)); main.main()"
    )
    port = str(free_port())
    command = [sys.executable, "-c", code, str(tmp_path / "reason"), "--model_dir", str(tmp_path / "model")]
    done = subprocess.run([*command, "--http_port", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "is not what was sealed" in (tmp_path / "reason").read_text()


def test_http_and_grpc_need_two_ports(model):
    port = str(free_port())
    more = ["--enable_grpc", "true", "--grpc_port", port]
    done = subprocess.run(command(model, int(port), *more), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cannot share a port" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--queue", "-1", "setting queue is wrong"),
        ("--deadline_ms", "0", "setting deadline_ms is wrong"),
        ("--max_mb", "0", "setting max_mb is wrong"),
        ("--max_megapixels", "51", "setting max_megapixels is wrong"),
        ("--workers", "2", "--workers cannot be used"),
    ],
)
def test_options_that_cannot_be(model, option, value, says):
    command = [sys.executable, "-m", "defectline.components.serve", "--model_dir", str(model), option, value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


# Another model


def test_another_model_takes_over_without_a_request_lost_and_a_bad_one_does_not(model, judged, tmp_path):
    first, second = judged.bundle.version, "v20990101-000000-second"
    new = other_version(model, tmp_path / "new", second)
    bad = other_version(model, tmp_path / "bad", "v20990101-000000-bad")
    (bad / "openvino/model.bin").write_bytes(b"damaged")
    link = tmp_path / "model"
    link.symlink_to(model)

    def serve(folder: Path) -> None:
        (tmp_path / "next").symlink_to(folder)
        os.replace(tmp_path / "next", link)
        running.process.send_signal(signal.SIGHUP)

    with serving(link, tmp_path / "log") as running:
        stop, answered = threading.Event(), Counter[str]()

        def ask() -> None:
            while not stop.is_set():
                answered[version_of(post(running.url + PREDICT, PNG, "image/png"))] += 1
                answered[infer(running.grpc, PNG).model_version] += 1

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            try:
                serve(bad)
                said = running.wait_for("the new model cannot be served; the present one stays")
                assert "is not what was sealed" in said["what"]
                assert version_of(post(running.url + PREDICT, PNG, "image/png")) == first
                assert second not in answered
                serve(new)
                said = running.wait_for("another model serves")
                assert (said["previous_version"], said["model_version"]) == (first, second)
                assert version_of(post(running.url + PREDICT, PNG, "image/png")) == second
            finally:
                stop.set()
            for task in asking:
                task.result()
        assert set(answered) == {first, second}
        # Files that change under the running network change none of its answers.
        before = post(running.url + PREDICT, PNG, "image/png").json()["predictions"][0]
        (new / "openvino/model.bin").write_bytes(b"")
        (new / "openvino/model.xml").write_bytes(b"")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("the model is the same as before")
        after = post(running.url + PREDICT, PNG, "image/png").json()["predictions"][0]
        assert {**before, "latency_ms": 0} == {**after, "latency_ms": 0}
        metrics = requests.get(f"{running.url}/metrics", timeout=5).text
        assert f'defectline_model_info{{name="plates",precision="float32",version="{second}"}} 1.0' in metrics
        assert first not in metrics
        assert 'defectline_model_switches_total{result="failed"} 1.0' in metrics


def test_models_follow_one_another_and_the_former_ones_leave_memory(model, judged, tmp_path):
    other = other_version(model, tmp_path / "other", "v20990101-000000-other")
    link = tmp_path / "model"
    link.symlink_to(model)
    with serving(link, tmp_path / "log") as running:
        for turn in range(1, 9):
            (tmp_path / "next").symlink_to(other if turn % 2 else model)
            os.replace(tmp_path / "next", link)
            running.process.send_signal(signal.SIGHUP)
            said = running.wait_for("another model serves", turn)
            assert version_of(post(running.url + PREDICT, PNG, "image/png")) == said["model_version"]
            assert infer(running.grpc, PNG).model_version == said["model_version"]

    served = DefectModel("plates", model, ServeSettings(threads=2))
    served.load()
    assert served.loaded is not None
    former = weakref.ref(served.loaded.network)
    served.source = Folder(other)
    asyncio.run(served.switch())
    assert served.loaded.bundle.version == "v20990101-000000-other"
    # At once: among what is frozen at the start no garbage is collected.
    assert former() is None


def test_defectline_serve_follows_the_champion(judged, tmp_path):
    store = open_storage(str(tmp_path / "store"))
    first, second = judged.bundle.version, "v20990101-000000-second"
    other = other_version(judged.folder, tmp_path / "second", second)
    publish_folder(judged.folder, store, f"models/plates/{first}")
    publish_folder(other, store, f"models/plates/{second}")

    def champion(version: str) -> None:
        seen = store.read_versioned(champion_key("plates"))
        content = ChampionRecord(version=version, run="one").model_dump_json().encode()
        store.compare_and_swap(champion_key("plates"), content, seen and seen[1])

    champion(first)
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "defectline.cli", "serve", "--store", str(tmp_path / "store")]
    command += ["--name", "plates", "--port", str(port), "--watch", "0.1", "--alias", "old"]
    with process_of(command, log) as process:
        wait_until_ready(process, url, "old", log)
        running = Running(url, "", process, log)
        assert version_of(post(url + PREDICT, PNG, "image/png")) == first
        champion("v20990101-000000-missing")
        running.wait_for("the new model cannot be served; the present one stays")
        assert version_of(post(url + PREDICT, PNG, "image/png")) == first
        champion(second)
        running.wait_for("another model serves")
        assert version_of(post(url + PREDICT, PNG, "image/png")) == second


# What it tells of itself


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


def test_observers_are_told_after_the_answer(model, judged):
    served = DefectModel("plates", model)
    served.load()
    seen = []
    served.observers.add(seen.append)
    from defectline.components.serve.protocol.requests import read_raw

    answered = asyncio.run(served.predict(read_raw(PNG, {"threshold": "0.5", "request_id": "a"})))
    served.observers.close()
    (observed,) = seen
    assert observed.picture == PNG
    assert observed.image.shape == (*observed.mask.shape, 1)
    assert observed.prediction == answered.results[0].prediction
    assert (observed.request_id, observed.threshold) == ("a", 0.5)
    assert observed.bundle == judged.bundle


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
