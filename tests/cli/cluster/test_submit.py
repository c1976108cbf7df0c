"""`defectline submit` against the stand-in of the KFP API."""

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from commands import call, defectline
from kfp_api import KfpApi, on, running

from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.storage import open_storage
from defectline.pipeline.kfp_server import following

RUNS = "/runs"


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


def test_submit_and_wait(server, package):
    done = defectline("submit", *on(server, package), "--set", "epochs=3", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended, done" in done.stdout
    (body,) = server.bodies(RUNS)
    parameters = body["runtime_config"]["parameters"]
    assert (parameters["epochs"], parameters["source"], parameters["model_name"]) == (
        3,
        "s3://plates/a",
        "defects",
    )


def test_a_name_that_kserve_cannot_serve_starts_nothing(server, package):
    done = call("submit", *on(server, package), "--name", "a" * 39)
    assert done.returncode == 2
    assert "KServe cannot serve a model called" in done.stderr
    assert not server.bodies(RUNS)


def test_on_a_terminal_the_steps_are_a_table(server, package):
    names = ["ingest", "preprocess"]
    server.script = (
        ("RUNNING", {names[0]: "RUNNING"}),
        ("RUNNING", {names[0]: "SUCCEEDED", names[1]: "RUNNING"}),
        ("FAILED", {names[0]: "SUCCEEDED", names[1]: "FAILED"}),
    )
    status, shown = on_a_terminal("submit", *on(server, package), "--wait")
    assert status == 1
    # Each look draws the table over the one before.
    assert shown.count("minutes") >= 3
    assert "\x1b[1A" in shown
    assert f"{server.host}/#/runs/details/" in shown
    plain = call("submit", *on(server, package), "--wait")
    assert plain.returncode == 1
    assert "preprocess: failed" in plain.stdout
    assert "ended, failed: no step could say why" in plain.stdout
    assert "\x1b" not in plain.stdout


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Exit status and all that is shown, of the command on a terminal of 100 columns."""
    command = [str(Path(sys.executable).with_name("defectline")), *arguments]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "COLUMNS": "100"}
        os.execv(command[0], command)
    shown = b""
    with suppress(OSError):  # Linux says so where the other end is closed.
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_exit_status_by_what_the_gate_said(package, s3_server, monkeypatch):
    # A run of the stand-in ends with the next look.
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    store = open_storage(f"s3://{s3_server.new_bucket()}/store")

    class Refusing(KfpApi):
        def answer(self, request, upload):
            run_id = request.path.partition("/runs/")[2]
            if run_id and state:
                write_outcome(store, run_id, Outcome(state=state, reason="escape is 0.2"))
            return super().answer(request, upload)

    for state, expected in (("refused", 3), ("deployed", 0), ("", 2)):
        with running(Refusing()) as server:
            options = ["--package", package, "--source", "s3://plates/a", "--store", store.uri]
            done = call("submit", "--host", server.host, *options, "--fail-on-gate")
        assert done.returncode == expected, done.stdout + done.stderr
        assert (f"{state}: escape is 0.2" in done.stdout) == bool(state)
    assert "left no outcome" in done.stderr


def test_parameters_are_checked_before_anything_is_sent(server, package):
    done = defectline("submit", *on(server, package), "--set", "epochs=none")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    assert not server.bodies(RUNS)
