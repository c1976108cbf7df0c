"""`defectline serve`: what it says, and the champion of a store, served by a process."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import requests
from commands import call, defectline
from endpoints import (
    PREDICT,
    START_S,
    Running,
    fails,
    near_and_far,
    other_version,
    plate,
    post,
    process_of,
    publish_champion,
    version_of,
    wait_until_ready,
)
from networks import Judged, judge_model
from servers import free_port

from defectline.cli import hints
from defectline.components.common.bundle import publish_folder
from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord
from defectline.components.common.review import frame_id
from defectline.components.common.storage import open_storage

PNG = plate()


DEFECTLINE = [sys.executable, "-m", "defectline.cli"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one", pairs=24)


@pytest.fixture(scope="module")
def store(judged, tmp_path_factory) -> Path:
    """With the champion `plates`."""
    root = tmp_path_factory.mktemp("store")
    publish_champion(judged.folder, judged.bundle.version, root)
    return root


def test_defectline_serve_serves_the_champion_until_it_is_told_to_end(judged, store, tmp_path):
    port, log = free_port(), tmp_path / "serve.log"
    url = f"http://127.0.0.1:{port}"
    command = [*DEFECTLINE, "serve", "--store", str(store), "--name", "plates", "--port", str(port)]
    near, _ = near_and_far(judged)
    with process_of([*command, "--no-review", "--no-page"], log) as process:
        wait_until_ready(process, url, "plates", log)
        (prediction,) = post(url + PREDICT, near, "image/png").json()["predictions"]
        assert prediction["model_version"] == judged.bundle.version
        assert requests.get(url, timeout=60).json() == {"status": "alive"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_S) == 0
    assert not (store / "review").exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_defectline_serve_without_a_champion(tmp_path):
    said = fails([*DEFECTLINE, "serve", "--store", str(tmp_path), "--name", "plates"])
    assert "There is no model plates to serve" in said
    assert " run`, or correct --store" in said


def test_defectline_serve_on_a_port_that_is_taken(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*DEFECTLINE, "serve", "--store", str(store), "--name", "plates", "--port", port]
        assert f"Port {port} cannot be used" in fails(command)


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


def test_defectline_serve_keeps_frames_in_its_store(judged, tmp_path):
    store = publish_champion(judged.folder, judged.bundle.version, tmp_path / "store")
    port = free_port()
    url, near = f"http://127.0.0.1:{port}", near_and_far(judged)[0]
    where = ["--store", store, "--name", "plates"]
    command = [sys.executable, "-m", "defectline.cli", "serve", *where, "--port", str(port)]
    with process_of(command, tmp_path / "log") as process:
        wait_until_ready(process, url, "plates", tmp_path / "log")
        assert "Inspect a part" in requests.get(url, headers={"Accept": "text/html"}, timeout=60).text
        assert post(url + PREDICT, near, "image/png").status_code == 200
        process.terminate()
        assert process.wait(START_S) == 0
    listed = defectline("review", "list", *where)
    assert listed.returncode == 0, listed.stderr
    assert frame_id(near)[:8] in listed.stdout


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The commands that took the place of this process."""
    found: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: found.append(command))
    return found


def test_the_predictor_serves_the_champion(factory, started):
    port = str(free_port())
    done = call(
        "serve", "--store", factory.store.root, "--port", port, "--alias", "plates", "--grpc-port", "9"
    )
    assert done.returncode == 0, done.stderr
    assert f"Serving defects {factory.versions[1]} on http://localhost:{port}" in done.stdout
    assert f"{hints.program()} inspect IMAGE --url http://localhost:{port} --name defects" in done.stdout
    assert "in a browser" in done.stdout
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "defectline.components.serve"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options["--store"] == options["--review"] == str(factory.store.root)
    assert (options["--http_port"], options["--grpc_port"], options["--alias"]) == (port, "9", "plates")


def test_without_a_page_and_review(factory, started):
    port = str(free_port())
    done = call("serve", "--store", factory.store.root, "--port", port, "--no-page", "--no-review")
    assert done.returncode == 0, done.stderr
    assert "in a browser" not in done.stdout
    (command,) = started
    assert "--no_page" in command
    assert "--review" not in command


def test_no_champion(tmp_path, started):
    done = call("serve", "--store", tmp_path)
    assert (done.returncode, done.stdout, started) == (2, "", [])
    assert f"`{hints.program()} run`" in done.stderr
