"""A step tells the store what became of it, and neither waits for the store nor fails because of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets import set_env
from faults import Faults, Rule, answer, faults
from servers import S3Server, free_port

from defectline.components.common.errors import SourceError
from defectline.components.common.reporting import pod
from defectline.components.common.reporting import recorder as recording
from defectline.components.common.reporting.pod import POD_ENV, RUN_ENV
from defectline.components.common.reporting.recorder import Recorder
from defectline.components.common.reporting.step_record import GIB, Memory, StepRecord, read_steps
from defectline.components.common.steps import step
from defectline.components.common.storage import open_storage

BUSY = """
import hashlib, sys
from defectline.components.common.steps import step
with step("train", sys.argv[1]):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"outside of", b"Python", 2**31 - 1)
"""
"""A step that computes for an hour without going through Python's interpreter."""


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(RUN_ENV, "run-1")
    monkeypatch.setenv(POD_ENV, "defectline-x7-system-container-impl-1")
    (tmp_path / "namespace").write_text("kubeflow\n")
    monkeypatch.setattr(pod, "NAMESPACE", tmp_path / "namespace")
    monkeypatch.setattr(recording, "read_memory", lambda: None)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store")


def eventually(uri: str, good: Callable[[StepRecord], bool]) -> StepRecord:
    deadline = time.monotonic() + 60
    while True:
        records = read_steps(open_storage(uri), "run-1")
        if records and good(records[0]):
            return records[0]
        assert time.monotonic() < deadline, records
        time.sleep(0.02)


def only(uri: str) -> StepRecord:
    (record,) = read_steps(open_storage(uri), "run-1")
    return record


def test_a_step_that_ends_well(uri: str):
    with step("preprocess", uri, shard=1, shards=3) as report:
        running = eventually(uri, lambda record: True)
        report.summary = "8 pictures"
    assert (running.state, running.ended, running.title) == ("running", "", "preprocess 2 of 3")
    assert (running.pod, running.namespace) == ("defectline-x7-system-container-impl-1", "kubeflow")
    assert only(uri) == running.model_copy(
        update={"state": "done", "ended": only(uri).ended, "summary": "8 pictures"}
    )
    assert only(uri).ended >= running.began
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_mistake_of_the_user(uri: str):
    with pytest.raises(SystemExit), step("ingest", uri):
        raise SourceError("It is empty.", got="no file", expected="files", fix="Add some.")
    found = only(uri)
    assert (found.state, found.reason) == ("failed", "failed in ingest: It is empty. Got no file.")
    assert found.error is not None
    assert found.error.fix == "Add some."


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(3)])
def test_an_internal_error(uri: str, error: BaseException):
    with pytest.raises(type(error)), step("train", uri):
        raise error
    assert only(uri).state == "failed"
    assert type(error).__name__ in only(uri).reason


def test_a_step_that_is_interrupted(uri: str):
    with pytest.raises(KeyboardInterrupt), step("train", uri):
        raise KeyboardInterrupt
    assert only(uri).state == "stopped"


def test_without_a_run_nothing_is_written(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(RUN_ENV)
    with step("ingest", uri):
        pass
    assert list(open_storage(uri).list()) == []


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    set_env(monkeypatch, s3_server)
    with faults(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def bucket(proxy: Faults, s3_server: S3Server) -> str:
    return f"s3://{s3_server.new_bucket()}/store"


@pytest.mark.parametrize("inside", [False, True], ids=["python", "outside_of_python"])
def test_sigterm_to_all_processes_of_a_step(bucket: str, inside: bool):
    """As Argo's process number 1 hands it on: to the shell that KFP starts a step with, and to the step."""
    code = BUSY if inside else BUSY.replace("hashlib.pbkdf2_hmac(", "__import__('time').sleep(3600) or (")
    started = subprocess.Popen(
        ["sh", "-c", 'echo shell; "$0" -c "$1" "$2"', sys.executable, code, bucket],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert started.stdout is not None
        while started.stdout.readline().strip() != "busy":
            assert started.poll() is None
        eventually(bucket, lambda record: record.state == "running")
        os.killpg(started.pid, signal.SIGTERM)
        # The pipe ends with the last process that holds it, which is the step.
        assert "train: stopped by SIGTERM" in started.stdout.read()
        assert only(bucket).state == "stopped"
        assert only(bucket).ended
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def test_sigterm_ends_a_step_whose_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = (
        f"from defectline.components.common.reporting.recorder import Recorder\nRecorder.STOP_S = 0.1\n{BUSY}"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, "s3://bucket/store"], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    while started.stdout.readline().strip() != "busy":
        assert started.poll() is None
    started.terminate()
    assert started.wait(60) == 128 + signal.SIGTERM


def test_a_store_that_is_away_does_not_hide_the_steps_own_error(
    proxy: Faults, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    proxy.rules = [Rule(answer(403, "AccessDenied"), ".*")]
    with pytest.raises(SystemExit) as caught, step("ingest", bucket):
        raise SourceError("It is empty.", got="no file", expected="files", fix="Add some.")
    assert caught.value.code == 2
    said = capsys.readouterr().out
    assert "ingest: It is empty." in said
    assert "cannot write into the store that it runs" in said


@pytest.mark.parametrize("uri", ["s3://", "ftp://here/store"])
def test_a_store_that_cannot_be_one(uri: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ZeroDivisionError), step("ingest", uri):
        _ = 1 / 0
    assert "ingest: cannot write into the store" in capsys.readouterr().out


def test_a_store_that_does_not_answer_is_not_waited_for(
    proxy: Faults, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    proxy.rules = [Rule(answer(503, "SlowDown"), ".*")]
    monkeypatch.setattr(Recorder.end, "__defaults__", (0.1,))
    with step("ingest", bucket):
        pass
    assert "ingest: the store does not answer" in capsys.readouterr().out


def test_memory_that_rises_to_its_limit_is_told_a_few_times(uri: str, monkeypatch: pytest.MonkeyPatch):
    used = [*range(500, 900, 50), *range(900, 1000, 1), 600]
    looks = iter(used)
    monkeypatch.setattr(Recorder, "EVERY_S", 0.0)
    monkeypatch.setattr(
        recording,
        "read_memory",
        lambda: Memory(limit_bytes=1000 * GIB, highest_bytes=next(looks, used[-1]) * GIB),
    )
    told: list[int] = []
    write = recording.write_step

    def watch(store, run, record) -> None:
        told.append(record.memory.highest_bytes // GIB if record.memory else 0)
        write(store, run, record)

    monkeypatch.setattr(recording, "write_step", watch)
    with step("train", uri):
        eventually(uri, lambda record: record.memory is not None and record.memory.highest_bytes == 999 * GIB)
    assert told[:2] == [0, 900]
    assert len(told) <= 10
    # The highest use stays, for it tells what happened.
    assert only(uri).memory == Memory(limit_bytes=1000 * GIB, highest_bytes=999 * GIB)


def test_memory_far_from_its_limit_is_not_told(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "read_memory", lambda: Memory(limit_bytes=GIB, highest_bytes=GIB // 2))
    with step("train", uri):
        pass
    assert only(uri).memory is None


def test_processes_that_were_killed_are_told(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        recording, "read_memory", lambda: Memory(limit_bytes=GIB, highest_bytes=GIB // 2, killed=1)
    )
    with pytest.raises(RuntimeError), step("preprocess", uri):
        raise RuntimeError("a process of the pool ended")
    assert "at 0.50 of 1.00 GiB of memory" in only(uri).reason
