"""Networks that judge the training pictures which they have not learned."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL_NETWORK
from hypothesis import given
from hypothesis import strategies as st
from networks import LIMITS, write_source
from small_network import IMAGING, build_small, make_splits

from defectline.components.common.bundle import CROSS_FIT, FOLDS, read_bundle
from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.inference.network import Network
from defectline.components.common.storage import checksums
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess
from defectline.components.train import cross_fitting
from defectline.components.train.cross_fitting import cross_fit, deal
from defectline.components.train.learning import Learned
from defectline.components.train.settings import TrainSettings


def prepare(labels: str, groups: str = "") -> Prepared:
    """A letter a training picture, g good or d defective, and a letter for its group; two more validate."""
    rows = [
        Row(
            id=f"{number:02}",
            label="OK" if letter == "g" else "NG",
            split="train" if number < len(labels) else "validation",
            group=(groups[number : number + 1]).strip(),
        )
        for number, letter in enumerate(labels + "gd")
    ]
    return Prepared(snapshot="s", fingerprint="s", imaging=IMAGING, rows=rows)


@given(labels=st.text("gd", min_size=2, max_size=40), folds=st.integers(2, 6))
def test_every_training_picture_is_in_one_fold(labels, folds):
    dealt = deal(prepare(labels), folds)
    assert list(dealt) == [f"{number:02}" for number in range(len(labels))]
    for label in "gd":
        sizes = Counter(dealt[f"{n:02}"] for n, letter in enumerate(labels) if letter == label)
        counts = [sizes[fold] for fold in range(folds)]
        assert max(counts) - min(counts) <= 1


def test_pictures_of_one_group_or_tile_stay_together():
    prepared = prepare("ggggdddd", "aabb  cc")
    dealt = deal(prepared, 2)
    assert dealt["00"] == dealt["01"] != dealt["02"] == dealt["03"]
    assert dealt["06"] == dealt["07"]
    tiled = [row.model_copy(update={"tile": (0, x)}) for row in prepared.rows for x in (0, 32)]
    assert deal(prepared.model_copy(update={"rows": tiled}), 2) == dealt


def test_no_network_learns_what_it_judges(monkeypatch, tmp_path):
    prepared = prepare("gdgdgd")
    # Two rows are there beside the six and two of the splits.
    prepared = prepared.model_copy(update={"rows": [*prepared.rows, prepared.rows[-1]]})
    learned = []

    def learn(splits, part, *_):
        ids = {part.rows[row].id for row in splits["train"].rows.tolist()}
        assert {row.id for row in part.rows if row.split == "train"} == ids
        learned.append((ids, splits["validation"].rows.tolist()))
        return Learned(build_small(32), [], "")

    monkeypatch.setattr(cross_fitting, "learn", learn)
    cross_fit(tmp_path, make_splits(), prepared, TrainSettings(cross_fit=3), "float32", 1, None)
    folds = json.loads((tmp_path / CROSS_FIT / FOLDS).read_text())
    assert len(learned) == 3
    for fold, (ids, validation) in enumerate(learned):
        assert ids == {id for id in folds if folds[id] != fold}
        assert validation == [6, 7, 8]
        network = Network(tmp_path / CROSS_FIT / f"{fold}/model.xml", IMAGING)
        assert network.probabilities(np.zeros((1, 32, 32, 1), np.uint8)).shape == (1, 32, 32)


def test_one_network_alone_is_refused():
    with pytest.raises(ValueError, match="cross_fit=1"):
        TrainSettings(cross_fit=1)


@pytest.mark.slow
def test_more_pictures_choose_the_threshold(tmp_path):
    """The whole way: trained in the step, judged in evaluate, and nothing of it in the bundle."""
    store, model = tmp_path / "store", tmp_path / "model"
    snapshot = ingest(str(write_source(tmp_path / "source", size=32)), str(store))
    preprocess(str(store), snapshot, tmp_path / "data", {"image_size": 32})
    rows = json.loads((tmp_path / "data/dataset.json").read_text())["rows"]
    _train(
        tmp_path / "data",
        model,
        store,
        "epochs=1",
        "quantize=false",
        "training=cross_fit=2",
        "pretraining=none",
    )
    checksums.verify(model)
    folds = json.loads((model / CROSS_FIT / FOLDS).read_text())
    assert set(folds) == {row["id"] for row in rows if row["split"] == "train"}
    # Of the network and of two more, until it is judged.
    assert len({path.parent for path in (store / "checkpoints").rglob("*.npz")}) == 3
    evaluate(str(store), snapshot, model, tmp_path / "bundle", tmp_path / "report.html", LIMITS, "one")
    assert not [path for path in (store / "checkpoints").rglob("*") if path.is_file()]
    promises = read_bundle(tmp_path / "bundle").promises
    judged = Counter(row["label"] for row in rows)
    assert {promise.rate: promise.pictures for promise in promises} == {
        "escape": judged["NG"],
        "overkill": judged["OK"],
    }
    assert not (tmp_path / "bundle" / CROSS_FIT).exists()


def _train(dataset: Path, model: Path, store: Path, *pairs: str) -> None:
    command = [sys.executable, "-m", "defectline.components.train", dataset, model, "--store", store]
    options = [part for pair in pairs for part in ("--set", pair)]
    ended = subprocess.run(
        [*map(str, command), *options], capture_output=True, text=True, env=os.environ | SMALL_NETWORK
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
