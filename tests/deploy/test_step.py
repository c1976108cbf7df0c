"""The deploy step, and the outcome that every run gets."""

import shutil

import pytest
from bundles import put_champion

from defectline.components.common.errors import SourceError
from defectline.components.common.records import Outcome, read_outcome, write_outcome
from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.common.steps import step
from defectline.components.deploy.step import deploy, find_champion, finish


def test_before_the_first_deployment_there_is_no_champion(tmp_path):
    assert find_champion(str(tmp_path / "store"), "defects", {}) == ""


def test_a_changed_bundle_is_not_even_published(judged, tmp_path, capsys):
    folder, store = tmp_path / "bundle", tmp_path / "store"
    shutil.copytree(judged.folder, folder)
    with (folder / "onnx/model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SystemExit) as caught:
        deploy(folder, str(store), {}, "run")
    assert caught.value.code == 2
    assert "onnx/model.onnx is not what was sealed" in capsys.readouterr().out
    assert not store.exists()


def test_finish_writes_the_outcome_that_no_step_could(store, tmp_path):
    root = str(tmp_path / "store")
    finish(root, "said", "FAILED", "task train failed")
    assert read_outcome(store, "said").reason == "task train failed"
    refused = Outcome(state="refused", reason="max_escape")
    write_outcome(store, "ended", refused)
    finish(root, "ended", "SUCCEEDED", "")
    assert read_outcome(store, "ended") == refused


def test_finish_reads_the_reason_from_what_the_steps_wrote(store, tmp_path, monkeypatch, capsys):
    """KFP's message is always empty on a cluster."""
    monkeypatch.setenv(RUN_ENV, "broken")
    with pytest.raises(SystemExit), step("ingest", str(tmp_path / "store")):
        raise SourceError("The source is empty.", got="no file", expected="pairs", fix="Add some.")
    finish(str(tmp_path / "store"), "broken", "FAILED", "")
    expected = Outcome(state="failed", reason="failed in ingest: The source is empty. Got no file.")
    assert read_outcome(store, "broken") == expected


def test_a_run_that_was_stopped_once_its_version_served_is_a_deployed_one(store, tmp_path):
    champion = put_champion(store)
    finish(str(tmp_path / "store"), champion.run, "FAILED", "", "defects", {})
    assert read_outcome(store, champion.run).version == champion.version
