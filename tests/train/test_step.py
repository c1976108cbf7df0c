"""The train step: what it refuses; and the model that it makes, however often it is killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import SMALL_NETWORK
from networks import write_source

from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess
from defectline.components.train import step as training

EPOCHS = 4


def start(dataset: Path, model: Path, store: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "defectline.components.train", dataset, model, "--store", store]
    training = "unfreeze_at_epoch=3,freeze_encoder_until=bn_Conv1,pretraining_steps=2"
    pairs = (f"epochs={EPOCHS}", "quantize=false", f"training={training}")
    options = [part for pair in pairs for part in ("--set", pair)]
    log = model.with_suffix(".log").open("a")
    env = os.environ | SMALL_NETWORK
    return subprocess.Popen([*map(str, command), *options], stdout=log, stderr=subprocess.STDOUT, env=env)


def finish(process: subprocess.Popen, model: Path) -> str:
    """Wait for the step's good end; returns all that it said since it was first started."""
    status = process.wait(timeout=600)
    said = model.with_suffix(".log").read_text()
    assert status == 0, said[-3000:]
    return said


def kill_when(process: subprocess.Popen, reached: Callable[[], bool]) -> None:
    """kill -9 as soon as the moment is there; fails where the process ends before."""
    while not reached():
        assert process.poll() is None, "the step ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_train_step_that_is_killed_ends_in_the_same_model(tmp_path):
    store = tmp_path / "store"
    snapshot = ingest(str(write_source(tmp_path / "source", 20, size=32)), str(store))
    preprocess(str(store), snapshot, tmp_path / "data", {"image_size": 32})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(tmp_path / "data", whole, store), whole)
    # Until the model is judged, nothing of it is learned again.
    kept_for = json.loads((whole / "model.json").read_text())["checkpoints"]
    assert set(kept_for) == {path.parent.name for path in (store / "checkpoints").rglob("*.npz")}
    FolderStorage(store).delete_below("checkpoints/")

    def kept(epoch: int) -> Callable[[], bool]:
        return lambda: any((store / "checkpoints").glob(f"*/epoch-{epoch:05d}.npz"))

    for reached in (kept(2), (killed / "saved_model/1/saved_model.pb").exists):
        kill_when(start(tmp_path / "data", killed, store), reached)
        assert not (killed / checksums.NAME).exists()
    said = finish(start(tmp_path / "data", killed, store), killed)
    assert f"going on after epoch {EPOCHS} of {EPOCHS}" in said

    checksums.verify(killed)
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}
    assert json.loads((killed / "history.json").read_text()) == json.loads(
        (whole / "history.json").read_text()
    )
    a, b = (keras.models.load_model(folder / "model.keras").get_weights() for folder in (whole, killed))
    # Bit for bit, on one processor.
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def prepared(folder: Path, label: str, size: int = 32) -> Path:
    folder.mkdir()
    rows = [{"id": f"{label}/{i}", "label": label, "split": "train"} for i in range(3)]
    content = {"snapshot": "s", "fingerprint": "f", "imaging": {"image_size": 32}, "rows": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    np.save(folder / "images.npy", np.zeros((3, size, size, 1), np.uint8))
    np.save(folder / "masks.npy", np.zeros((3, size, size), np.uint8))
    return folder


def test_a_dataset_that_does_not_fit_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        training.train(prepared(tmp_path / "data", "NG", 64), tmp_path / "model", tmp_path / "page", {})
    assert "arrays of the" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
