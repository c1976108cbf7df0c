"""`defectline inspect`: files, folders and patterns, many at once, and what goes wrong with some of them."""

import csv
import http.server
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import defectline
from networks import SIZE, draw, judge_model
from pictures import encode
from PIL import Image
from servers import free_port, running

from defectline.cli.endpoint.inspect import _largest
from defectline.client import Region
from defectline.client.batch import COLUMNS
from defectline.client.overlay import NG
from defectline.components.common.bundle import copy_served


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    copy_served(judge_model(folder / "one", pairs=24).folder, folder / "model")
    return folder / "model"


@contextmanager
def _serving(model: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A predictor that serves the model `plates`, as a process."""
    command = [sys.executable, "-m", "defectline.components.serve", "--model_dir", str(model)]
    with running([*command, "--model_name", "plates", "--http_port", str(port)], port, log) as process:
        yield process


@pytest.fixture(scope="module")
def url(model) -> Iterator[str]:
    port = free_port()
    with _serving(model, port, model.parent / "serve.log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """OK/0.png to OK/2.png and NG/0.png to NG/2.png."""
    for label in ("OK", "NG"):
        (tmp_path / label).mkdir()
        for number in range(3):
            drawn = draw(label, np.random.default_rng(number), SIZE)[0]
            (tmp_path / label / f"{number}.png").write_bytes(encode(drawn))
    return tmp_path


def _inspect(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return defectline("inspect", *arguments, "--url", url, "--name", "plates", cwd=folder)


def _verdicts(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split()[:2] for line in done.stdout.splitlines() if ".png" in line]


def test_folders_patterns_and_files_in_the_order_they_were_named(url, pictures):
    done = _inspect(
        url, pictures, "NG", "OK/[01].png", "OK/2.png", "NG/0.png", "--jobs", "3", "--overlays", "inspected"
    )
    assert done.returncode == 0, done.stderr
    named = [f"{label}/{number}.png" for label in ("NG", "OK") for number in range(3)]
    assert _verdicts(done) == [[name, name[:2]] for name in named]
    drawn = sorted(path.name for path in (pictures / "inspected").iterdir())
    assert drawn == sorted(name.replace("/", "-") for name in named)
    assert done.stdout.splitlines()[-1] == "6 images: 3 NG, 3 OK"
    # No bar where there is no terminal.
    assert done.stderr == ""


def test_nothing_is_drawn_unless_a_folder_is_named(url, pictures):
    before = sorted(pictures.rglob("*"))
    done = _inspect(url, pictures, "OK/0.png")
    assert done.stdout.splitlines()[-1] == "1 image: 1 OK"
    assert sorted(pictures.rglob("*")) == before


def test_one_bad_file_does_not_stop_the_others(url, pictures):
    (pictures / "NG/1.png").write_text("no picture")
    done = _inspect(url, pictures, "NG", "missing.png", "OK", "--csv", "all.csv")
    assert done.returncode == 2
    assert [name for name, _ in _verdicts(done)] == [
        "NG/0.png",
        "NG/2.png",
        "OK/0.png",
        "OK/1.png",
        "OK/2.png",
    ]
    assert "NG/1.png: The endpoint does not accept the image." in done.stderr
    assert "missing.png: missing.png cannot be read." in done.stderr
    assert done.stdout.splitlines()[-1] == "7 images: 2 NG, 3 OK, 2 failed"
    assert done.stderr.splitlines()[-1] == "2 of 7 images failed"
    assert "Traceback" not in done.stderr
    with (pictures / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["verdict"] for row in rows] == ["NG", "", "NG", "", "OK", "OK", "OK"]
    assert [bool(row["error"]) for row in rows] == [False, True, False, True, False, False, False]
    assert len(json.loads(rows[0]["regions"])[0]) == 5
    # Who wants a table did not ask for pictures.
    assert not (pictures / "inspected").exists()


def test_json_has_a_line_for_each_picture(url, pictures):
    (pictures / "OK/0.png").write_text("no picture")
    done = _inspect(url, pictures, "OK/0.png", "NG/0.png", "--json", "--overlays", "drawn")
    assert done.returncode == 2
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["image"] == "OK/0.png"
    assert set(first["error"]) == {"kind", "what", "got", "expected", "fix"}
    assert (second["image"], second["prediction"]["verdict"]) == ("NG/0.png", "NG")
    assert done.stderr.splitlines()[0] == "2 images: 1 NG, 1 failed"
    assert [path.name for path in (pictures / "drawn").iterdir()] == ["NG-0.png"]


@pytest.mark.parametrize("name", ["other", "plates"])
def test_an_endpoint_that_fails_is_told_once(url, pictures, name):
    wrong = url if name == "other" else f"http://127.0.0.1:{free_port()}"
    done = defectline("inspect", "OK", "NG", "--url", wrong, "--name", name, "--csv", "a.csv", cwd=pictures)
    assert done.returncode == 2
    said = "There is no model other" if name == "other" else "does not answer"
    assert done.stderr.count("fix:") == 1
    assert said in done.stderr


def test_a_csv_can_be_printed(url, pictures):
    done = _inspect(url, pictures, "OK/0.png", "NG/0.png", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [(row["image"], row["verdict"]) for row in rows] == [("OK/0.png", "OK"), ("NG/0.png", "NG")]
    assert not (pictures / "-").exists()
    done = _inspect(url, pictures, "OK/0.png", "--csv", "-", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--csv - with --json" in done.stderr


def test_a_csv_goes_where_its_path_leads(url, pictures):
    (pictures / "far").mkdir()
    (pictures / "link.csv").symlink_to("far/real.csv")
    assert _inspect(url, pictures, "OK/0.png", "--csv", "link.csv").returncode == 0
    assert (pictures / "link.csv").is_symlink()
    written = (pictures / "far/real.csv").read_text()
    os.mkfifo(pictures / "pipe.csv")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((pictures / "pipe.csv").read_text)
        assert _inspect(url, pictures, "OK/0.png", "--csv", "pipe.csv").returncode == 0
        assert read.result().splitlines()[0] == written.splitlines()[0]
    assert (pictures / "pipe.csv").is_fifo()


@pytest.mark.parametrize("target", ["OK/0.png", "far"])
def test_a_csv_takes_no_pictures_place(url, pictures, target):
    (pictures / "far").mkdir()
    before = (pictures / "OK/0.png").read_bytes()
    done = _inspect(url, pictures, "OK", "--csv", target)
    assert done.returncode == 2
    assert f"{target} cannot be written" in done.stderr
    assert (pictures / "OK/0.png").read_bytes() == before


def test_an_endpoint_that_starts_again_is_waited_for(model, pictures):
    many, port, log = pictures / "many", free_port(), pictures / "serve.log"
    many.mkdir()
    # However slow this machine is, the deadline of a picture does not end while the endpoint starts.
    options = ["--csv", "all.csv", "--timeout", "150"]
    for number in range(300):
        shutil.copy(pictures / "OK/0.png", many / f"{number}.png")
    with ThreadPoolExecutor() as pool:
        with _serving(model, port, log) as process:
            asked = pool.submit(_inspect, f"http://127.0.0.1:{port}", pictures, "many", *options)
            while not asked.done() and '"request"' not in log.read_text():
                time.sleep(0.01)
            process.kill()
            process.wait()
        answered = log.read_text().count('"request"')
        with _serving(model, port, pictures / "again.log"):
            done = asked.result()
    assert answered < 300
    assert done.returncode == 0, done.stderr
    with (pictures / "all.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["OK"] * 300


def test_a_csv_that_cannot_be_written(url, pictures):
    done = _inspect(url, pictures, "OK/0.png", "--csv", "missing/all.csv")
    assert done.returncode == 2
    assert "missing/all.csv cannot be written" in done.stderr


def test_a_bar_on_a_terminal(url, pictures):
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "defectline.cli",
        "inspect",
        "OK",
        "--url",
        url,
        "--name",
        "plates",
    ]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, cwd=pictures, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # how Linux says that the other end is closed
        out = process.stdout.read() if process.stdout else b""
    os.close(ours)
    assert process.returncode == 0
    assert b"inspecting" in shown
    assert b"3/3" in shown
    assert b"inspecting" not in out


# What was found, drawn; and where nothing is found


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command prints that must exit with 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_what_was_found_is_printed_and_drawn(url, pictures):
    done = _inspect(url, pictures, "OK/1.png", "NG/1.png", "--overlays", "drawn")
    assert done.returncode == 0, done.stderr
    assert _verdicts(done) == [["OK/1.png", "OK"], ["NG/1.png", "NG"]]
    for label in ("OK", "NG"):
        overlay = Image.open(pictures / f"drawn/{label}-1.png")
        assert overlay.size == (448, 448 + 34)
        red = (np.asarray(overlay) == NG).all(axis=2).sum()
        assert (red > 100) == (label == "NG")


def test_an_endpoint_that_does_not_answer(pictures):
    url = f"http://127.0.0.1:{free_port()}"
    said = _said(_inspect(url, pictures, "OK/0.png", "--overlays", "drawn"))
    assert f"{url} does not answer" in said
    assert not (pictures / "drawn").exists()


def test_a_file_that_is_not_a_picture_or_missing(url, pictures):
    (pictures / "notes.png").write_text("no picture")
    said = _said(_inspect(url, pictures, "notes.png"))
    assert "does not accept" in said
    assert "10 bytes" in said
    assert "There is no such image" in _said(_inspect(url, pictures, "missing.png"))


def test_a_web_server_that_says_200_to_everything(pictures):
    class Anything(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Anything) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert "no prediction" in _said(_inspect(url, pictures, "OK/0.png"))
        finally:
            server.shutdown()
            thread.join()


def test_overlays_that_cannot_be_written(url, pictures):
    (pictures / "drawn").write_text("a file where the folder should be")
    assert "cannot be written" in _said(_inspect(url, pictures, "OK/0.png", "--overlays", "drawn"))


def test_of_many_regions_the_largest_are_shown():
    regions = [Region(bbox=[n, 0, 1, n], area_px=n, centroid=[0, 0], score=1) for n in range(1, 8)]
    assert _largest(regions).splitlines() == [
        *(f"{n}, 0, 1, {n}, {n}" for n in (7, 6, 5, 4, 3)),
        "and 2 smaller; --json has all",
    ]
    assert len(_largest(regions[:5]).splitlines()) == 5
