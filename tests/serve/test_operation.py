"""The endpoint in operation: many at once, overload, its end, another model."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from endpoints import (
    PREDICT,
    START_S,
    Running,
    command,
    error_of,
    expected,
    other_version,
    plain,
    plate,
    post,
    process_of,
    serving,
    version_of,
    wait_until_ready,
)
from fuzz import Caller, cases
from pictures import encode
from servers import free_port
from tensors import infer

from defectline.client import Client, Prediction

PNG = plate()


def _refusal(address: str, picture: bytes) -> grpc.RpcError | None:
    try:
        infer(address, picture)
    except grpc.RpcError as error:
        return error
    return None


# Many at once, and too many


def test_many_at_once_get_the_answers_of_one_at_a_time(served, judged):
    pictures = [plate(seed, ("OK", "NG")[seed % 2]) for seed in range(24)]

    def ask(picture: bytes) -> dict:
        return plain(post(served.url + PREDICT, picture, "image/png").json()["predictions"][0], judged)

    alone = [ask(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, pictures)) == alone


def test_health_is_answered_while_a_large_picture_is_judged(served):
    # Sixteen megapixels take a second or more, so that probes come in between.
    picture = encode(np.full((4000, 4000), 100, np.uint8))
    done, probes = threading.Event(), 0
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(post, served.url + PREDICT, picture, "image/png")
        busy.add_done_callback(lambda _: done.set())
        while not done.is_set():
            assert requests.get(f"{served.url}/v2/health/live", timeout=10).status_code == 200
            probes += not done.is_set()
        assert busy.result().status_code == 200
    assert probes >= 3


@pytest.fixture(scope="module")
def narrow(model, tmp_path_factory) -> Iterator[Running]:
    """One thread, one place in the queue, small bodies and pictures."""
    limits = ["--max_mb", "1", "--max_megapixels", "9", "--queue", "1", "--threads", "1"]
    with serving(model, tmp_path_factory.mktemp("log") / "log", *limits) as running:
        yield running


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


def test_models_follow_one_another(model, tmp_path):
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
