"""`defectline tune`: its options, its table and its file. The search is tested in tests/pipeline/tuning/."""

from pathlib import Path
from typing import Any

import pytest
from commands import call
from optuna.distributions import FloatDistribution

from defectline.cli.pipeline.tune import named
from defectline.pipeline.config import read_config
from defectline.pipeline.local import RunFailed
from defectline.pipeline.tuning import tuner
from defectline.pipeline.tuning.options import Options, Tuned
from defectline.pipeline.tuning.study import FoldResult, Study, Trial
from defectline.pipeline.tuning.trials import best_of

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-2)}


def trial(number: int, rate: float, cost: float) -> Trial:
    folds = tuple(FoldResult(run=f"r{n}", pictures=10, cost=cost, iou=0.5) for n in range(2))
    return Trial(number=number, state="complete", values={"learning_rate": rate}, folds=folds)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Options]]:
    """Parameters and options of each call."""
    found: list[tuple[Any, Options]] = []

    def tune(parameters, options, say):
        found.append((parameters, options))
        study = Study(
            source="s",
            snapshot="abc",
            folds=("f", "g"),
            objective=options.objective,
            max_latency_ms=options.max_latency_ms,
            seed=0,
            settings="",
            space={"learning_rate": "0.0001..0.01"},
        )
        trials = [trial(0, 0.002, 0.5), trial(1, 0.004, 0.25)]
        if options.max_latency_ms:
            trials = [one.model_copy(update={"state": "infeasible", "reason": "9 ms"}) for one in trials]
        return Tuned(study, SPACE, trials, best_of(trials, options.objective))

    monkeypatch.setattr(tuner, "tune", tune)
    return found


def test_the_best_is_a_file_for_run_and_on_top_of_the_table(tmp_path: Path, asked):
    store, file = tmp_path / "store", tmp_path / "best.yaml"
    done = call("tune", tmp_path, "--store", store, "--set", "epochs=9", "-o", file, "--trials", "2")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    first, second = (row for row in rows if row[1:2] == ["judged"])
    assert first == ["1", "judged", "0.250", "0.000", "0.500", "–", "–", "learning_rate=0.004"]
    assert second[-3:] == ["as", "they", "are"]
    assert "best     trial 1" in done.stdout
    assert read_config(file).parameters == {"epochs": 9, "training": "learning_rate=0.004"}
    (kept,) = store.glob("tuning/*/config.yaml")
    assert kept.read_text() == file.read_text()
    assert list(store.glob("tuning/*/index.html"))
    ((parameters, options),) = asked
    assert (parameters.epochs, options.trials, options.folds, options.workers) == (9, 2, 4, 1)
    assert (options.objective, list(options.search), options.given) == ("cost", [], {"epochs"})


def test_options_are_handed_on(tmp_path: Path, asked):
    options = ["--folds", "3", "--objective", "iou", "--search", "decoder=light,pix2pix", "--workers", "2"]
    done = call("tune", "--source", tmp_path, "--store", tmp_path / "store", *options, "--all-pictures")
    assert done.returncode == 0, done.stderr
    ((_, found),) = asked
    assert (found.folds, found.objective, found.workers, found.every_picture) == (3, "iou", 2, True)
    assert list(found.search) == ["decoder=light,pix2pix"]


def test_settings_that_somebody_chose_are_known_by_name():
    pairs = ["epochs=3", "training=learning_rate=1e-3,patience=4 zoom=0.1", "decoder=light"]
    assert named(pairs) == {"epochs", "training", "learning_rate", "patience", "zoom", "decoder"}


def test_where_no_trial_keeps_the_limits_there_is_no_file(tmp_path: Path, asked):
    file = tmp_path / "best.yaml"
    done = call("tune", tmp_path, "--store", tmp_path / "store", "--max-latency", "1", "-o", file)
    assert done.returncode == 2
    assert "No trial keeps the limits" in done.stderr
    assert "beyond a limit" in done.stdout
    assert not file.exists()
    assert not list(tmp_path.glob("store/tuning/*/config.yaml"))


def test_the_folder_of_the_file_is_made_before_the_search(tmp_path: Path, asked):
    command, file = ("tune", tmp_path, "--store", tmp_path / "store", "-o"), tmp_path / "made/best.yaml"
    done = call(*command, file)
    assert done.returncode == 0, done.stderr
    assert read_config(file)
    asked.clear()
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file/best.yaml", tmp_path / "made"):
        done = call(*command, wrong)
        assert done.returncode == 2
        assert f"{wrong} cannot be written" in done.stderr
        assert "Choose another --output" in done.stderr
    assert not asked


@pytest.mark.usefixtures("clean")
def test_neither_object_is_written_where_one_cannot_be(tmp_path: Path):
    command = ("tune", "--source", "s3://a/b", "--store", "s3://a/c", "--katib", tmp_path / "new/k.yaml")
    (tmp_path / "file").write_text("")
    done = call(*command, "--job", tmp_path / "file/job.yaml")
    assert done.returncode == 2
    assert "Choose another --job" in done.stderr
    assert not (tmp_path / "new/k.yaml").exists()
    done = call(*command, "--job", tmp_path / "new/job.yaml")
    assert done.returncode == 0, done.stderr
    assert {one.name for one in (tmp_path / "new").iterdir()} == {"k.yaml", "job.yaml"}


def test_an_internal_error_is_told_with_its_log(tmp_path: Path, monkeypatch):
    log = tmp_path / "log.txt"
    log.write_text("KeyError: 'a'\n")

    def fails(*_):
        raise RunFailed(log, tmp_path / "fault.txt")

    monkeypatch.setattr(tuner, "tune", fails)
    done = call("tune", tmp_path, "--store", tmp_path / "store")
    assert done.returncode == 1
    assert "KeyError: 'a'" in done.stdout
