"""What a step tells the people who watch it."""

import json
from pathlib import Path

import pytest

from defectline.components.common import steps
from defectline.components.common.errors import SourceError
from defectline.components.common.steps import MARK, reported_error, say, step, track


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(steps.REPORTS_ENV, str(tmp_path))
    return tmp_path


def test_a_step_reports_its_summary(reports: Path, capsys: pytest.CaptureFixture[str]):
    with step("ingest") as report:
        say("reading")
        report.summary = "16 pairs"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{MARK}reading"
    assert said[1].startswith(f"{MARK}ingest: 16 pairs (")
    content = json.loads((reports / "ingest.json").read_text())
    assert (content["step"], content["summary"]) == ("ingest", "16 pairs")
    assert content["seconds"] >= 0
    assert reported_error() == ""


def test_a_step_need_not_have_a_summary(reports: Path):
    with step("ingest"):
        pass
    assert json.loads((reports / "ingest.json").read_text())["summary"] == ""


def test_each_shard_reports_for_itself(reports: Path, capsys: pytest.CaptureFixture[str]):
    for shard in range(2):
        with step("preprocess", shard=shard, shards=2) as report:
            report.summary = f"part {shard}"
    assert f"{MARK}preprocess 2 of 2: part 1" in capsys.readouterr().out
    assert sorted(path.name for path in reports.iterdir()) == ["preprocess-0.json", "preprocess-1.json"]


def test_an_error_that_the_user_can_fix_ends_the_step_without_a_traceback(
    reports: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught, step("ingest"):
        raise SourceError("It is empty.", got="no file", expected="files", fix="Add some.")
    assert caught.value.code == 2
    said = capsys.readouterr().out
    assert said.startswith("ingest: It is empty.\n")
    assert "Traceback" not in said
    assert SourceError.from_json((reports / "error.json").read_text()).fix == "Add some."
    assert reported_error() == "It is empty."
    assert not (reports / "ingest.json").exists()


def test_an_internal_error_comes_through_with_its_traceback(reports: Path):
    with pytest.raises(ZeroDivisionError), step("ingest"):
        _ = 1 / 0
    assert "ZeroDivisionError" in (reports / "fault.txt").read_text()
    assert not (reports / "ingest.json").exists()


def test_without_a_folder_a_step_only_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv(steps.REPORTS_ENV, raising=False)
    monkeypatch.chdir(tmp_path)
    with step("train") as report:
        report.summary = "done"
    assert "train: done" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert reported_error() == ""


def test_progress_says_how_many_how_fast_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(steps.time, "monotonic", lambda: next(clock))
    assert list(track("abcdef", 6, "reading", every_s=4)) == list("abcdef")
    # Two seconds an item, a line every four.
    assert capsys.readouterr().out.splitlines() == [
        f"{MARK}reading: 2 of 6, 0.5/s, 8 s left",
        f"{MARK}reading: 4 of 6, 0.5/s, 4 s left",
        f"{MARK}reading: 6 of 6, 0.5/s, 0 s left",
    ]
