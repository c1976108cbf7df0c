"""What is known of a run that ended without an outcome."""

from pathlib import Path

import pytest

from defectline.components.common.errors import ServingError
from defectline.components.common.reporting import pod
from defectline.components.common.reporting.pod import POD_ENV
from defectline.components.common.reporting.step_record import Memory, StepRecord, write_step
from defectline.components.common.steps import REPORTS_ENV
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy import pods
from defectline.components.deploy.reason import explain


def no_rights(run: str, namespace: str) -> str:
    raise ServingError("It may not.", got="403", expected="rights", fix="Give them.")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStorage:
    (tmp_path / "store").mkdir()
    (tmp_path / "namespace").write_text("kubeflow")
    monkeypatch.setenv(POD_ENV, "defectline-x7-system-container-impl-9")
    monkeypatch.setattr(pod, "NAMESPACE", tmp_path / "namespace")
    monkeypatch.delenv(REPORTS_ENV, raising=False)
    monkeypatch.setattr(pods, "find_trouble", no_rights)
    return FolderStorage(tmp_path / "store")


def test_what_a_step_wrote_counts_more_than_what_kfp_says(store: FolderStorage):
    write_step(store, "r", StepRecord(step="ingest", state="done", began="1"))
    write_step(store, "r", StepRecord(step="train", state="stopped", began="2"))
    assert explain(store, "r", "RUNNING", "of KFP").startswith("stopped in train: the run was cancelled, ")


def test_what_kubernetes_knows_counts_where_no_step_says_its_error(
    store: FolderStorage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pods, "find_trouble", lambda run, namespace: f"{run} in {namespace}: killed")
    write_step(store, "r", StepRecord(step="train", state="running", began="1"))
    assert explain(store, "r", "FAILED", "") == "r in kubeflow: killed"
    write_step(store, "r", StepRecord(step="evaluate", state="failed", began="2", fault="E: it broke"))
    assert explain(store, "r", "FAILED", "") == "failed in evaluate: E: it broke."


def test_a_step_that_had_no_time_to_say_that_it_was_cancelled(store: FolderStorage):
    write_step(store, "r", StepRecord(step="train", state="running", began="1", pod="p"))
    expected = (
        "stopped in train: the run was cancelled, or the step was killed. Its log: kubectl logs p -c main"
    )
    assert explain(store, "r", "RUNNING", "") == expected
    assert explain(store, "r", "FAILED", "").startswith("ended in train, which could not say why")
    full = Memory(limit_bytes=1 << 30, highest_bytes=1 << 30)
    write_step(store, "r", StepRecord(step="train", state="running", began="1", memory=full))
    assert explain(store, "r", "RUNNING", "").startswith("killed in train at 1.00 of 1.00 GiB")


def test_a_run_that_was_cancelled_between_two_steps(store: FolderStorage):
    write_step(store, "r", StepRecord(step="ingest", state="done", began="1"))
    assert explain(store, "r", "RUNNING", "") == (
        "stopped after ingest: the run was cancelled, or a pod was killed before it could say anything. "
        "Look at its pods: kubectl get pods -l pipeline/runid=r -n kubeflow"
    )


def test_a_step_that_never_reached_the_store(store: FolderStorage):
    said = explain(store, "r", "FAILED", "")
    assert said.startswith("failed, in a step that could not say why: it did not start, or cannot reach")
    assert "kubectl get pods -l pipeline/runid=r -n kubeflow" in said


def test_on_a_laptop_there_are_no_pods_to_look_at(store: FolderStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(POD_ENV)
    assert explain(store, "r", "FAILED", "task train failed") == "task train failed"
    assert "kubectl" not in explain(store, "r", "FAILED", "")


def test_a_store_that_is_not_there(tmp_path: Path):
    assert explain(FolderStorage(tmp_path / "none"), "r", "FAILED", "").startswith("failed, in a step")
