"""What the endpoint does beside answering: it watches drift and keeps frames for review."""

import asyncio
import math
import re
import shutil
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from commands import defectline
from endpoints import (
    START_S,
    expected,
    near_and_far,
    plate,
    post,
    process_of,
    serving,
    v1_body,
    wait_until_ready,
)
from networks import Judged, draw, judge_model
from pictures import encode
from prometheus_client import generate_latest
from servers import free_port

from defectline.components.common import checksums
from defectline.components.common.bundle import copy_served, publish_folder
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.statistics import ImageStats, Statistics, brightness_and_contrast
from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord
from defectline.components.common.review import frame_id
from defectline.components.common.storage import open_storage
from defectline.components.serve import __main__ as server
from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol.requests import read_raw
from defectline.pipeline.catalog.review import list_frames

PREDICT = "/v1/models/plates:predict"


def _picture(number: int, darker: int = 0) -> np.ndarray:
    """Every other one is NG."""
    image = draw(("OK", "NG")[number % 2], np.random.default_rng(number))[0]
    return image - np.uint8(darker)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    """With the statistics of 200 training pictures."""
    judged = judge_model(tmp_path_factory.mktemp("judged") / "one", pairs=24)
    looks = [
        ImageStats(*brightness_and_contrast(_picture(number)[..., None]), 0, number % 4 == 1)
        for number in range(200)
    ]
    Statistics.of(looks).write(judged.folder)
    checksums.seal(judged.folder)
    return judged


@pytest.fixture(scope="module")
def model(judged, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_served(judged.folder, folder)
    return folder


def metric(url: str, name: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=60).text
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


def wait_for(url: str, name: str, least: float) -> None:
    """Observers see an answer after it was sent."""
    deadline = time.monotonic() + START_S
    while (found := metric(url, name)) < least:
        assert time.monotonic() < deadline, f"{name} is {found}"
        time.sleep(0.02)


# Drift


def test_gauges_follow_the_last_frames_whatever_threshold_a_caller_brings(model, tmp_path):
    psi = [f'defectline_drift_psi{{feature="{feature}"}}' for feature in ("brightness", "contrast")]
    with serving(model, tmp_path / "log", "--drift_window", "200") as running:
        assert metric(running.url, "defectline_drift_frames") == 0
        assert metric(running.url, "defectline_training_defect_rate") == 0.25
        assert all(math.isnan(metric(running.url, name)) for name in psi)

        def send(numbers: range, darker: int = 0, **parameters: float) -> None:
            for start in numbers[::50]:
                pictures = [encode(_picture(number, darker)) for number in range(start, start + 50)]
                answered = post(running.url + PREDICT, v1_body(*pictures, **parameters))
                assert answered.status_code == 200, answered.text
                verdicts = [one["verdict"] for one in answered.json()["predictions"]]
                assert verdicts.count("NG") == (0 if parameters else 25)

        send(range(1000, 1200))
        wait_for(running.url, "defectline_drift_frames", 200)
        assert all(metric(running.url, name) < 0.1 for name in psi)
        assert metric(running.url, "defectline_defect_rate") == 0.5
        # By this threshold nothing is NG; by the model's, half is.
        send(range(2000, 2200), darker=60, threshold=1.0)
        deadline = time.monotonic() + START_S
        while metric(running.url, psi[0]) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # A window that is full and in motion holds as many of both as it holds at rest.
        assert metric(running.url, "defectline_drift_frames") == 200
        assert metric(running.url, "defectline_defect_rate") == pytest.approx(0.5, abs=0.01)


def test_another_model_begins_with_gauges_of_its_own(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    served, seen = DefectModel("plates", folder), []
    served.load()
    served.observers.add(seen.append)

    def frames() -> float:
        text = generate_latest(served.metrics.registry).decode()
        (found,) = re.findall(r"^defectline_drift_frames (\S+)$", text, re.MULTILINE)
        return float(found)

    asyncio.run(served.predict(read_raw(plate(), {})))
    served.observers.close()
    assert frames() == 1
    bundle = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(bundle.replace('"min_area_px": ', '"min_area_px": 1'))
    checksums.seal(folder)
    asyncio.run(served.switch())
    assert frames() == 0
    # The last answer of the former model comes late.
    (late,) = seen
    served._watch_drift(late)
    assert frames() == 0
    served._watch_drift(late._replace(bundle=served.loaded.bundle))
    assert frames() == 1


# Review


def test_a_frame_is_kept_with_what_the_model_itself_says(judged, model, tmp_path):
    near, far = near_and_far(judged)
    store = str(tmp_path / "store")
    options = ["--review", store, "--review_share", "0", "--review_margin", "0.05"]
    with serving(model, tmp_path / "log", *options) as running:
        # Neither what is near to the caller's threshold, nor what the caller wants to see, matters.
        score = expected(judged, far)["score"]
        address = running.url + PREDICT
        post(f"{address}?threshold={score}", far, "image/png")
        answered = post(f"{address}?threshold=0.05&mask=none&regions=false", near, "image/png").json()
        assert set(answered["predictions"][0]).isdisjoint({"mask_png", "regions"})
        running.process.terminate()
        assert running.process.wait(START_S) == 0
        assert running.lines("ended")
    (item,) = list_frames(open_storage(store), "plates", pytest.fail)
    assert item.frame.id == frame_id(near)
    assert item.frame.reason == "near_threshold"
    assert item.frame.threshold == judged.bundle.threshold
    assert item.frame.prediction == {**expected(judged, near), "model_version": judged.bundle.version}
    assert answered["predictions"][0]["defect_area_px"] != item.frame.prediction["defect_area_px"]


def _champion(judged: Judged, root: Path) -> str:
    store, version = open_storage(str(root)), judged.bundle.version
    publish_folder(judged.folder, store, f"models/plates/{version}")
    store.write(champion_key("plates"), ChampionRecord(version=version, run="one").model_dump_json().encode())
    return str(root)


def test_defectline_serve_keeps_frames_in_its_store(judged, tmp_path):
    store, port = _champion(judged, tmp_path / "store"), free_port()
    url, near = f"http://127.0.0.1:{port}", near_and_far(judged)[0]
    where = ["--store", store, "--name", "plates"]
    command = [sys.executable, "-m", "defectline.cli", "serve", *where, "--port", str(port)]
    with process_of(command, tmp_path / "log") as process:
        wait_until_ready(process, url, "plates", tmp_path / "log")
        assert "Inspect a part" in requests.get(url, timeout=60).text
        assert post(url + PREDICT, near, "image/png").status_code == 200
        process.terminate()
        assert process.wait(START_S) == 0
    listed = defectline("review", "list", *where)
    assert listed.returncode == 0, listed.stderr
    assert frame_id(near)[:8] in listed.stdout


def test_a_store_that_goes_away_costs_its_frames_alone(model, tmp_path):
    store = tmp_path / "mount" / "store"
    store.mkdir(parents=True)
    with serving(model, tmp_path / "log", "--review", str(store), "--review_share", "1") as running:

        def ask(number: int) -> None:
            answered = post(running.url + PREDICT, encode(_picture(number)), "image/png")
            assert answered.status_code == 200, answered.text

        ask(0)
        wait_for(running.url, "defectline_review_written_total", 1)
        store.parent.rename(tmp_path / "away")
        store.parent.write_text("where the volume should be")
        for number in range(1, 4):
            ask(number)
        wait_for(running.url, "defectline_review_failed_total", 3)
        (said,) = [line for line in running.log.read_text().splitlines() if "are not kept" in line]
        assert '"level": "warning"' in said
        store.parent.unlink()
        (tmp_path / "away").rename(store.parent)
        ask(9)
        wait_for(running.url, "defectline_review_written_total", 2)


def test_no_answer_waits_for_a_store_that_hangs_nor_does_the_end(model, tmp_path, monkeypatch):
    with socket.socket() as hanging:
        # It takes connections, and nothing ever comes.
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(100)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        options = ["--review", "s3://bucket/store", "--review_share", "1", "--drain_ms", "0"]
        with serving(model, tmp_path / "log", *options) as running:
            for start in range(0, 100, 50):
                pictures = [encode(_picture(number)) for number in range(start, start + 50)]
                assert post(running.url + PREDICT, v1_body(*pictures)).status_code == 200
            # One is being written, 64 wait; an attempt that was given up meanwhile makes room for one.
            wait_for(running.url, 'defectline_review_dropped_total{reason="queue_full"}', 20)
            assert metric(running.url, "defectline_review_written_total") == 0
            running.process.terminate()
            assert running.process.wait(START_S) == 0
            assert running.lines("ended")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--drift_window", "199", "setting drift_window is wrong"),
        ("--review_margin", "1.5", "setting review_margin is wrong"),
        ("--review_share", "-0.1", "setting review_share is wrong"),
        ("--review_per_day", "0", "setting review_per_day is wrong"),
        ("--review", "ftp://elsewhere", "scheme of ftp://elsewhere is unknown"),
    ],
)
def test_options_that_cannot_be(model, monkeypatch, option, value, says):
    port = str(free_port())
    monkeypatch.setattr(sys, "argv", ["serve", "--model_dir", str(model), "--http_port", port, option, value])

    def start() -> None:
        arguments = server._arguments()
        server._reviewer(arguments, server._settings(arguments), DefectModel("plates", model))

    with pytest.raises(SettingsError, match=says):
        start()
