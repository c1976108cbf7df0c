"""Steps run one by one, in processes of their own."""

import sys
from pathlib import Path

import pytest
from pictures import write_source

from defectline.components.common.errors import DefectlineError
from defectline.components.common.snapshot import read_head
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline import step_runner
from defectline.pipeline.local import RunFailed
from defectline.pipeline.parameters import parse
from defectline.pipeline.step_runner import StepRunner


def test_a_step_gets_its_settings_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = []

    def record(command: list[str], *others: object) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(step_runner, "run_subprocess", record)
    parameters = parse("source", "store", ["tile=true", "epochs=3", "training=patience=3 warmup=0.2"])
    runner = StepRunner(parameters, tmp_path, print)
    runner.run("preprocess", "store", "snapshot", tmp_path)
    runner.run("train", tmp_path, "model", "--store", "store")
    preprocess, train = commands
    module = [sys.executable, "-m", "defectline.components.preprocess"]
    assert preprocess[:6] == [*module, "store", "snapshot", str(tmp_path)]
    given = dict(pair.split("=", 1) for pair in preprocess[7::2])
    assert set(preprocess[6::2]) == {"--set"}
    names = {"image_size", "channels", "enhance", "resize", "tile", "empty_tiles"}
    assert given == {**{name: str(getattr(parameters, name)) for name in names}, "tile": "True"}
    assert "training=warmup=0.2 patience=3" in train
    assert "epochs=3" in train
    assert not any(text.startswith("tile=") for text in train)


def test_a_step_runs_and_says_what_it_does(tmp_path: Path):
    said: list[str] = []
    source, store = write_source(tmp_path / "source", range(8)), tmp_path / "store"
    runner = StepRunner(parse(str(source), str(store), []), tmp_path, said.append)
    runner.run("ingest", source, store)
    assert read_head(FolderStorage(store))
    assert any("16 pairs" in line for line in said)


def test_a_step_that_fails_raises_what_it_reports(tmp_path: Path):
    runner = StepRunner(parse("nowhere", "store", []), tmp_path, print)
    with pytest.raises(DefectlineError, match="nowhere"):
        runner.run("ingest", tmp_path / "nowhere", tmp_path / "store")


def test_a_step_that_cannot_start_is_an_internal_error(tmp_path: Path):
    runner = StepRunner(parse("source", "store", []), tmp_path, print)
    with pytest.raises(RunFailed) as caught:
        runner.run("ingest", "--nosuch")
    assert "nosuch" in caught.value.detail


def test_a_step_that_is_killed_is_not_an_internal_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_runner, "run_subprocess", lambda *others: -9)
    with pytest.raises(DefectlineError, match="was killed") as caught:
        StepRunner(parse("source", "store", []), tmp_path, print).run("train")
    assert (caught.value.got, "--workers" in caught.value.fix) == ("signal 9", True)
