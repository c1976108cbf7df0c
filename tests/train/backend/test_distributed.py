"""Several processes that train one network together."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import together
from commands import SMALL_NETWORK
from networks import write_source

from defectline.components.common.storage import checksums
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess
from defectline.components.train.backend import distributed
from defectline.components.train.backend.distributed import ProcessLost, explained, gather, place
from defectline.components.train.backend.environment import Place

CURVES = """
import json, sys
from pathlib import Path
import numpy as np
from small_network import IMAGING, build_small, make_splits
from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.train.backend.distributed import joined, place
with joined():
    from defectline.components.train import loop, pretraining
    from defectline.components.train.settings import TrainSettings
    loop.build_network = build_small
    store = FolderStorage(Path(sys.argv[1]))
    rows = [Row(id=f"{i}", label="OK" if i % 2 else "NG", split="train") for i in range(9)]
    prepared = Prepared(snapshot="s", fingerprint="f", imaging=IMAGING, rows=rows)
    changed = {"jpeg": 60, "rotation": 20, "noise": 0.02, "pretraining_steps": 4}
    settings = TrainSettings(epochs=4, learning_rate=0.01, **changed)
    curves = {}
    if "painted" in sys.argv[2:]:
        good, kept = np.array([1, 3, 5]), loop.Checkpoints(store, "a")
        splits = make_splits()
        pretrained = pretraining.pretrain(splits, prepared, good, settings, "float32", 1, store)
        stage = loop.Stage("train", pretraining.Painting(good, 0.5, 7, False), start=pretrained.weights)
        curves["pretrained"] = pretrained.history
        _, curves["painted"] = loop.fit(splits, IMAGING, settings, stage=stage, checkpoints=kept)
    unmasked = np.arange(9) == 6
    labels = {name: split._replace(unmasked=unmasked) for name, split in make_splits(2).items()}
    classes = ("bright", "dark")
    network, curves["labelled"] = loop.fit(labels, IMAGING, settings, classes=classes, ignores=True)
    here = place()
weights = [float(np.abs(w).sum()) for w in network.get_weights()]
print(json.dumps({"place": here, "curves": curves, "weights": weights}))
"""


def learn(folder: Path, number: int, *curves: str) -> dict[str, Any]:
    """What so many processes learn, each of them."""
    (folder / "store").mkdir(parents=True)
    processes = together.start(number, ["-c", CURVES, folder / "store", *curves], folder / "logs")
    said = [json.loads(text.splitlines()[-1]) for text in together.finish(processes, folder / "logs")]
    assert [each.pop("place") for each in said] == [[index, number] for index in range(number)]
    # Numbers are those of all, so all go the same way.
    assert all(each == said[0] for each in said)
    return said[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, learn(folder, 1, "painted")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "curves"), [(2, ["painted"]), (4, [])])
def test_several_processes_learn_what_one_does(tmp_path, alone, number, curves):
    """Of three pictures to validate with, several cannot have as many."""
    folder, one = alone
    several = learn(tmp_path, number, *curves)
    assert len(several["curves"]) == (3 if curves else 1)
    for name, rows in several["curves"].items():
        assert len(rows) > (name != "pretrained")
        for a, b in zip(one["curves"][name], rows, strict=True):
            assert b == pytest.approx(a, abs=1e-4), name
    assert several["weights"] == pytest.approx(one["weights"], rel=1e-4)

    def kept(folder: Path) -> list[str]:
        store = folder / "store"
        return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())

    # By the same names: one goes on where several were cut off.
    assert not curves or kept(tmp_path) == kept(folder)


def test_alone_there_is_nobody_to_ask():
    assert place() == Place(0, 1)
    assert place().first
    assert gather(7) == [7]


def test_a_lost_process_is_told_from_another_error(monkeypatch):
    monkeypatch.setattr(distributed, "_here", Place(1, 2))
    with pytest.raises(ProcessLost, match=r"Process 2 of 2 .* Gloo AllReduce failed"), explained():
        raise ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer\nand more")
    with pytest.raises(ValueError, match="shapes"), explained():
        raise ValueError("shapes do not fit")
    monkeypatch.setattr(distributed, "_here", Place())
    with pytest.raises(ValueError, match="Gloo"), explained():
        raise ValueError("Gloo")


def train(tmp_path: Path, number: int, turn: int) -> list[subprocess.Popen]:
    pairs = ("epochs=60", "quantize=false", "pretraining=none", "training=patience=60")
    options = [part for pair in pairs for part in ("--set", pair)]
    arguments = ["-m", "defectline.components.train", tmp_path / "data", tmp_path / "model", *options]
    logs = tmp_path / f"logs-{turn}"
    return together.start(number, [*arguments, "--store", tmp_path / "store"], logs, **SMALL_NETWORK)


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_a_restart_goes_on(tmp_path):
    store = tmp_path / "store"
    snapshot = ingest(str(write_source(tmp_path / "source", 20, size=32)), str(store))
    preprocess(str(store), snapshot, tmp_path / "data", {"image_size": 32})

    def kept() -> int:
        """The last epoch that has a checkpoint."""
        return max((int(path.stem[-5:]) for path in (store / "checkpoints").rglob("*.npz")), default=0)

    # The second process first, then the first, which is where the others meet.
    for turn, victim in enumerate((1, 0)):
        before, processes = kept(), train(tmp_path, 2, turn)
        while kept() < before + 2:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
        processes[victim].kill()
        assert processes[1 - victim].wait(timeout=120) not in (0, 2)
        said = (tmp_path / f"logs-{turn}/{1 - victim}.log").read_text()
        assert "without the others" in said or "another task died" in said
        assert ("going on after epoch" in said) is bool(before)
        assert not (tmp_path / "model").exists()
    # Where two were cut off, one goes on.
    (said,) = together.finish(train(tmp_path, 1, 2), tmp_path / "logs-2")
    assert "going on after epoch" in said
    checksums.verify(tmp_path / "model")
    assert {"saved_model", "openvino", "onnx", "model.keras"} <= {
        p.name for p in (tmp_path / "model").iterdir()
    }
    parity = json.loads((tmp_path / "model/parity.json").read_text())["files"]
    assert {*parity} == {"openvino", "onnx", "saved_model"}
    # Until it is judged.
    (name,) = json.loads((tmp_path / "model/model.json").read_text())["checkpoints"]
    assert {path.parent.name for path in (store / "checkpoints").rglob("*.npz")} == {name}
