"""Searching settings: what is tried, given up, kept, and gone on with."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_folds
import pytest
from commands import defectline
from pictures import write_source

from defectline.components.common.errors import BundleError, SettingsError, StoreError
from defectline.components.common.layout import COUNTS, run_key, tuning_key
from defectline.components.common.snapshot import read_head, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.step import ingest
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.tuning import trying, tuner
from defectline.pipeline.tuning.options import Options, Tuned
from defectline.pipeline.tuning.trials import Trials
from defectline.pipeline.tuning.tuner import tune

FAKE_FOLDS = {"PYTHONPATH": str(Path(fake_folds.__file__).parent / "small_tuning")}
SEARCH = ("learning_rate=1e-4..1e-2", "decoder=pix2pix,light")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), range(40))


@pytest.fixture(autouse=True)
def formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "judge", fake_folds.judge)
    monkeypatch.setattr(fake_folds, "SECONDS", 0.0)
    # In this process: seconds sooner.
    monkeypatch.setattr(tuner, "take_snapshot", lambda given, *_: ingest(given.source, given.store))


def parameters(source: Path, store: Path, *pairs: str) -> Parameters:
    return parse(str(source), str(store), list(pairs))


def search(source: Path, store: Path, *pairs: str, **options: object) -> Tuned:
    asked = Options(**{"trials": 12, "folds": 3, "search": SEARCH, **options})  # type: ignore[arg-type]
    return tune(parameters(source, store, *pairs), asked, lambda line: None)


def test_the_best_is_found_and_never_worse_than_the_settings_as_they_are(source, tmp_path):
    tuned = search(source, tmp_path / "store")
    assert [trial.number for trial in tuned.trials] == list(range(12))
    default, best = tuned.trials[0], tuned.best
    assert default.values == {"learning_rate": 0.002, "decoder": "pix2pix"}
    assert best is not None
    assert best.cost is not None
    assert default.cost is not None
    assert best.cost < default.cost
    assert best.values["decoder"] == "light"
    whole = {trial.number for trial in tuned.trials if trial.state == "complete"}
    assert all(len(trial.folds) == 3 for trial in tuned.trials if trial.number in whole)
    # What is much worse is given up before its last fold.
    given_up = [trial for trial in tuned.trials if trial.state == "pruned"]
    assert given_up
    assert all(len(trial.folds) < 3 and "worse than trial" in trial.reason for trial in given_up)
    store = FolderStorage(tmp_path / "store")
    assert not list(store.list(tuning_key(tuned.study.id, "claims/")))


def test_pictures_of_the_test_split_take_no_part_unless_it_is_asked_for(source, tmp_path):
    store = FolderStorage(tmp_path / "store")
    for every, splits in ((False, {"train", "validation"}), (True, {"train", "validation", "test"})):
        tuned = search(source, store.root, trials=1, every_picture=every)
        whole = {pair.id for pair in read_pairs(store, tuned.study.snapshot) if pair.split in splits}
        used = {pair.id for fold in tuned.study.folds for pair in read_pairs(store, fold)}
        assert used == whole
        assert tuned.trials[0].pictures == len(whole)
    assert read_head(store) == tuned.study.snapshot


def test_a_trial_beyond_a_limit_is_not_judged_further_and_never_the_best(source, tmp_path):
    tuned = search(source, tmp_path / "store", max_latency_ms=20.0)
    for trial in tuned.trials:
        slow = trial.values["decoder"] == "pix2pix"
        assert (trial.state == "infeasible") == slow
        assert len(trial.folds) == 1 or not slow
    assert tuned.trials[0].reason == "30 ms, 20 ms allowed"
    assert tuned.best is not None
    assert tuned.best.values["decoder"] == "light"
    none = search(source, tmp_path / "store", max_memory_mb=200.0, trials=2)
    assert none.best is None


def test_by_iou(source, tmp_path):
    tuned = search(source, tmp_path / "store", objective="iou", trials=6)
    assert tuned.best is not None
    whole = [trial for trial in tuned.trials if trial.state == "complete"]
    assert tuned.best.iou == max(trial.iou for trial in whole if trial.iou is not None)


def test_settings_that_fail_are_told_and_the_others_tried(source, tmp_path, monkeypatch):
    def diverges(task, *others, **more):
        if fake_folds.quality(task.parameters) < 0.7:
            raise BundleError("The network gives no probabilities.", got="NaN", expected="b", fix="c")
        return fake_folds.judge(task, *others, **more)

    monkeypatch.setattr(trying, "judge", diverges)
    with pytest.raises(BundleError, match="no probabilities"):
        search(source, tmp_path / "bad", "training=learning_rate=1e-1")
    tuned = search(source, tmp_path / "store", "training=learning_rate=1e-3")
    failed = [trial for trial in tuned.trials if trial.state == "failed"]
    assert failed
    assert all("no probabilities" in trial.reason for trial in failed)
    assert tuned.best is not None


def test_a_store_that_is_away_ends_it_and_blames_no_settings(source, tmp_path, monkeypatch):
    def away(task, *others, **more):
        if "light" in task.parameters.training:
            raise StoreError("The store does not answer.", got="a", expected="b", fix="c")
        return fake_folds.judge(task, *others, **more)

    monkeypatch.setattr(trying, "judge", away)
    with pytest.raises(StoreError):
        search(source, tmp_path / "store")
    monkeypatch.setattr(trying, "judge", fake_folds.judge)
    tuned = search(source, tmp_path / "store")
    assert not [trial for trial in tuned.trials if trial.state == "failed"]


def test_more_trials_go_on_from_those_that_are_there(source, tmp_path):
    first = search(source, tmp_path / "store", trials=4)
    more = search(source, tmp_path / "store", trials=9)
    assert more.trials[:4] == first.trials
    assert more.trials == search(source, tmp_path / "other", trials=9).trials


def test_several_workers_share_the_trials(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fake_folds, "SECONDS", 0.02)
    tuned = search(source, tmp_path / "store", workers=3)
    assert [trial.number for trial in tuned.trials] == list(range(12))
    judged = [fold.run for trial in tuned.trials for fold in trial.folds]
    store = FolderStorage(tmp_path / "store")
    assert all(store.exists(run_key(run, COUNTS)) for run in judged)


def test_what_is_typed_wrong_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(SettingsError, match="Did you mean decoder"):
        search(tmp_path / "nowhere", tmp_path / "store", search=["decodr=light"])
    with pytest.raises(SettingsError, match="cross_fit"):
        search(tmp_path / "nowhere", tmp_path / "store", search=["cross_fit=0,1"])


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_nothing_had_happened(source, tmp_path):
    """Processes are killed with SIGKILL, whatever they are at."""
    options = [text for one in SEARCH for text in ("--search", one)]
    options += ["--trials", "12", "--folds", "3"]
    undisturbed = search(source, tmp_path / "undisturbed")
    store = FolderStorage(tmp_path / "store")
    command = [Path(sys.executable).with_name("defectline"), "tune", source, "--store", store.root, *options]
    chance = random.Random(3)
    for least in (2, 6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | FAKE_FOLDS)
        while len(list(store.root.glob("tuning/*/trials/*.json"))) < least:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(store.root.glob("tuning/*/trials/*.json"))) < 12
    done = defectline(
        "tune", source, "--store", store.root, *options, "-o", tmp_path / "a.yaml", env=FAKE_FOLDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Trials(store, undisturbed.study.id).read() == undisturbed.trials
    assert undisturbed.best is not None
    assert f"best     trial {undisturbed.best.number}" in done.stdout
    assert f"trial {undisturbed.best.number} of" in (tmp_path / "a.yaml").read_text()
