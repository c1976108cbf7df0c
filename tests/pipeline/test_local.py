"""Runs on this machine, in a process of their own."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from defectline.components.common.errors import Conflict, SettingsError
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.local import (
    RunFailed,
    StepReport,
    _read_reports,
    run_lock,
    run_subprocess,
    temporary_workdir,
)


def test_the_shards_of_a_step_are_one_line_of_the_table(tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (0, 0))
    ended = [("ingest", "ingest", 2), ("preprocess-1", "preprocess", 3), ("preprocess-0", "preprocess", 7)]
    for file, name, second in [*ended, ("train", "train", 9)]:
        (reports / f"{file}.json").write_text(json.dumps({"step": name, "seconds": 1, "summary": file}))
        os.utime(reports / f"{file}.json", (second, second))
    assert _read_reports(tmp_path, reports) == [
        StepReport("ingest", 2, "ingest"),
        StepReport("preprocess", 5, "preprocess-1; preprocess-0"),
        StepReport("train", 2, "train"),
    ]


def test_the_lock_of_a_store_is_held_by_one_run(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    with run_lock(store):
        with pytest.raises(Conflict, match="Another run uses this store"), run_lock(store):
            pass
        with run_lock(FolderStorage(tmp_path / "other")):
            pass
    with run_lock(store):
        pass


def test_a_temporary_folder_is_left_only_after_an_internal_error(tmp_path: Path):
    with temporary_workdir() as work:
        (work / "file").touch()
    assert not work.exists()
    with pytest.raises(SettingsError), temporary_workdir() as work:
        raise SettingsError("wrong", got="a", expected="b", fix="c")
    assert not work.exists()
    (tmp_path / "log").write_text("why")
    with pytest.raises(RunFailed), temporary_workdir() as work:
        raise RunFailed(tmp_path / "log", work / "fault")
    assert work.is_dir()
    shutil.rmtree(work)


def test_a_file_where_the_user_stands_is_not_taken_for_a_package(tmp_path: Path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    command = [sys.executable, "-c", "import colorsys; print('▸', colorsys.rgb_to_hsv(0, 0, 0))"]
    assert run_subprocess(command, "", tmp_path, tmp_path / "log", said.append) == 0
    assert said == ["(0.0, 0.0, 0)"]


def test_a_subprocess_gets_its_line_and_what_is_for_people_is_said(tmp_path: Path):
    program = "import os; print(input()); print('▸ told'); print(os.environ['DEFECTLINE_REPORTS']); exit(3)"
    said: list[str] = []
    log = tmp_path / "log"
    status = run_subprocess([sys.executable, "-c", program], "a line", tmp_path, log, said.append)
    assert (status, said) == (3, ["told"])
    assert log.read_text().splitlines() == ["a line", "▸ told", str(tmp_path)]
