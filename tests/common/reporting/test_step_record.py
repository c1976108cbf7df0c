"""What the steps of a run left, and what it says about a run that ended without a result."""

import pytest

from defectline.components.common.reporting.step_record import (
    GIB,
    Memory,
    StepError,
    StepRecord,
    find_reason,
    read_steps,
    write_step,
)
from defectline.components.common.storage.folder import FolderStorage

ERROR = StepError(what="The source is empty.", got="no file", expected="pairs", fix="Add some.")
FULL = Memory(limit_bytes=2 * GIB, highest_bytes=2 * GIB - 5_000_000)


def record(step: str, state: str = "done", **fields) -> StepRecord:
    minute = ("ingest", "preprocess", "train", "find-champion", "evaluate", "deploy").index(step)
    began = f"2026-11-28T06:{minute:02d}:00+00:00"
    return StepRecord.model_validate({"step": step, "state": state, "began": began} | fields)


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    (tmp_path / "store").mkdir()
    return FolderStorage(tmp_path / "store")


def test_what_is_written_is_read(store):
    written = [
        record("ingest", summary="24 pairs", pod="a-1", namespace="kubeflow"),
        record("preprocess", shard=0, shards=2),
        record("preprocess", "failed", shard=1, shards=2, error=ERROR, memory=FULL),
        record("train", "running"),
    ]
    for one in reversed(written):
        write_step(store, "run-1", one)
    write_step(store, "run-10", record("deploy"))
    assert read_steps(store, "run-1") == written
    assert [found.key for found in store.list("runs/run-10/")] == ["runs/run-10/steps/deploy.json"]
    assert read_steps(store, "other") == []


def test_a_damaged_record_and_one_of_another_version(store):
    store.write("runs/r/steps/ingest.json", b"{")
    store.write("runs/r/steps/train.json", b'{"step": "train", "state": "done", "novelty": 1}')
    assert read_steps(store, "r") == [StepRecord(step="train", state="done")]


def test_an_error_that_the_user_can_fix():
    found = find_reason([record("ingest", "failed", error=ERROR)])
    assert found is not None
    assert found.text == "failed in ingest: The source is empty. Got no file."
    long = ERROR.model_copy(update={"got": "a pod\n" + 400 * "x"})
    told = StepRecord(step="ingest", state="failed", error=long).reason
    assert told.startswith("failed in ingest: The source is empty. Got a pod xxx")
    assert told.endswith("x…")
    assert len(told) < 360
    assert "fix:      Add some." in found.record.detail


def test_an_internal_error_names_its_last_line_and_the_log():
    fault = "Traceback (most recent call last):\n  File …\nZeroDivisionError: division by zero\n"
    failed = record("train", "failed", fault=fault, pod="run-7-train", namespace="kubeflow")
    assert failed.reason == (
        "failed in train: ZeroDivisionError: division by zero. "
        "Its log: kubectl logs run-7-train -c main -n kubeflow"
    )
    assert failed.detail.endswith("division by zero")


def test_a_step_whose_helpers_were_killed_says_so():
    killed = Memory(limit_bytes=2 * GIB, highest_bytes=GIB, killed=2)
    failed = record("preprocess", "failed", shard=1, shards=3, fault="BrokenProcessPool: …", memory=killed)
    assert failed.reason.startswith("failed in preprocess 2 of 3 at 1.00 of 2.00 GiB of memory: BrokenProc")


def test_a_step_that_was_told_to_end():
    stopped = record("train", "stopped", ended="2026-11-28T07:32:00+00:00")
    assert stopped.reason.startswith("stopped in train after 90 min: the run was cancelled, the step's time")


def test_a_step_that_was_killed_near_its_limit():
    killed = record("train", "running", memory=FULL, pod="p")
    assert killed.reason == (
        "killed in train at 2.00 of 2.00 GiB of memory: give it more, with "
        "`compile --resources train=CPU,MEMORY`"
    )
    # A shard has the resources of the step that it is a part of.
    part = StepRecord(step="judge", state="running", shard=1, shards=3, memory=FULL)
    assert part.reason.startswith("killed in judge 2 of 3 at ")
    assert part.reason.endswith("--resources evaluate=CPU,MEMORY`")


def test_a_step_that_was_killed_without_a_word():
    assert record("train", "running", pod="p").reason == (
        "ended in train, which could not say why: it was killed, or lost its node. "
        "Its log: kubectl logs p -c main"
    )


def test_which_of_several_steps_counts():
    done = record("ingest")
    failed = record("find-champion", "failed", fault="E", ended="2026-11-28T06:59:00+00:00")
    said = record("evaluate", "failed", error=ERROR)
    near = record("preprocess", "running", memory=FULL)
    stopped, silent = record("train", "stopped"), record("train", "running")
    order = [said, failed, near, stopped, silent]
    for number, one in enumerate(order):
        found = find_reason([done, *reversed(order[number:])])
        assert found is not None
        assert found.record is one
    assert find_reason([done, record("train")]) is None
    assert find_reason([]) is None


def test_parts_of_a_run_have_records_of_their_own(store):
    fold = record("preprocess", part="fold 2 of 4", copy_of="3fa9c1d2")
    other = record("preprocess", "failed", part="fold 2 of 4", copy_of="77b0e4aa", error=ERROR)
    trained = record("train", part="fold 2 of 4, seed 0")
    for order in ([fold, other, trained], [trained, other, fold]):
        for one in order:
            write_step(store, "run-1", one)
        found = find_reason(read_steps(store, "run-1"))
        assert found is not None
        assert found.text == "failed in preprocess of fold 2 of 4: The source is empty. Got no file."
    assert sorted(one.key for one in store.list("runs/run-1/steps/")) == [
        "runs/run-1/steps/preprocess/fold-2-of-4-3fa9c1d2.json",
        "runs/run-1/steps/preprocess/fold-2-of-4-77b0e4aa.json",
        "runs/run-1/steps/train/fold-2-of-4-seed-0.json",
    ]
