"""Cross-validation and pretraining, with a network too small to learn anything."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from commands import contents, defectline
from hypothesis import given
from hypothesis import strategies as st

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.sample import generate_samples
from defectline.components.common.snapshot import Pair
from defectline.pipeline import pretraining
from defectline.pipeline.crossval import deal
from defectline.pipeline.parameters import Parameters, parse

TINY = ("--set", "image_size=32", "--set", "quantize=false", "--set", "epochs=1")


def pairs(ok: int, ng: int) -> list[Pair]:
    numbers = {"OK": ok, "NG": ng}
    return [Pair(f"{label}/{n:03}", label, "accepted") for label in LABELS for n in range(numbers[label])]


@given(ok=st.integers(12, 60), ng=st.integers(12, 60), folds=st.integers(2, 6))
def test_every_picture_is_judged_once_and_never_by_what_has_seen_it(ok: int, ng: int, folds: int):
    dealt = [deal(pairs(ok, ng), fold, folds) for fold in range(folds)]
    tested = [row.id for rows in dealt for row in rows if row.split == "test"]
    assert sorted(tested) == [pair.id for pair in sorted(pairs(ok, ng))]
    for rows in dealt:
        assert [row.id for row in rows] == [pair.id for pair in sorted(pairs(ok, ng))]
        assert {(row.label, row.split) for row in rows} == {
            (label, split) for label in LABELS for split in ("train", "validation", "test")
        }


def test_folds_go_by_number():
    rows = deal(pairs(20, 20), fold=1, folds=4)
    assert [row.id for row in rows if row.split == "test" and row.label == "NG"] == [
        f"NG/{number:03}" for number in (1, 5, 9, 13, 17)
    ]
    assert Counter(row.split for row in rows) == {"train": 24, "validation": 6, "test": 10}


@pytest.mark.parametrize(("ok", "ng", "folds"), [(3, 20, 4), (20, 7, 4)])
def test_too_few_pictures_for_the_folds(ok: int, ng: int, folds: int):
    with pytest.raises(SettingsError, match="too few"):
        [deal(pairs(ok, ng), fold, folds) for fold in range(folds)]


@pytest.mark.slow
def test_the_command_keeps_its_folds_and_goes_on(tmp_path: Path):
    generate_samples(tmp_path / "source", pairs=24, size=32)
    store = tmp_path / "store"
    command = ("crossval", tmp_path / "source", "--store", store, "--folds", "2", *TINY)
    done = defectline(*command)
    assert (done.returncode, done.stderr) == (0, "")
    judged = sorted(store.glob("runs/crossval-*/counts.json"))
    rows = [row for path in judged for row in json.loads(path.read_text())]
    assert len(judged) == 2
    assert len({row["id"] for row in rows}) == len(rows) == 24
    wrong = sum(row["verdict"] != row["label"] for row in rows if row["label"] == "NG")
    table = dict(zip(*[re.split(r"\s{2,}", line.strip()) for line in table_of(done.stdout)], strict=True))
    assert table["seed"] == "0"
    assert float(table["escape"]) == pytest.approx(wrong / 12, abs=0.001)
    assert not contents(store / "checkpoints")

    judged[0].unlink()
    before = contents(store / "runs" / judged[1].parent.name)
    again = defectline(*command)
    assert again.returncode == 0
    assert again.stdout.count("train: exporting") == 1
    assert contents(store / "runs" / judged[1].parent.name) == before
    assert table_of(again.stdout) == table_of(done.stdout)


def table_of(output: str) -> list[str]:
    lines = output.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("seed "))
    return lines[start : start + 2]


@pytest.mark.slow
def test_pretrained_weights_are_made_once_and_taken(tmp_path: Path):
    store = tmp_path / "store"
    command = ("pretrain", "--store", store, "--pairs", "24", *TINY)
    done = defectline(*command)
    assert (done.returncode, done.stderr) == (0, "")
    made = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"init_from=file://.*/pretrained/[0-9a-f]{12}\.keras#sha256=[0-9a-f]{64}", made)
    (file,) = (store / "pretrained").iterdir()
    before = file.read_bytes()
    again = defectline(*command)
    assert again.stdout == f"{made}\n"
    assert file.read_bytes() == before

    generate_samples(tmp_path / "source", pairs=24, size=32)
    gate = ("min_iou=0", "max_escape=1", "max_overkill=1", made)
    sets = [part for setting in gate for part in ("--set", setting)]
    run = defectline("run", "--source", tmp_path / "source", "--store", store, *TINY, *sets)
    assert run.returncode == 0, run.stdout
    assert "training" in json.loads(next(store.glob("models/defects/v*/bundle.json")).read_text())
    wrong = defectline(
        "run", "--source", tmp_path / "source", "--store", store, *TINY, "--set", f"{made[:-1]}g"
    )
    assert wrong.returncode == 2


def test_a_run_starts_from_weights_for_its_kind_of_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []
    (tmp_path / "OK").mkdir()
    (tmp_path / "OK/1.png").touch()

    def pretrain(parameters: Parameters, pairs: int, say: object) -> str:
        asked.append((parameters, pairs))
        return "file:///store/pretrained/one.keras#sha256=" + "0" * 64

    monkeypatch.setattr(pretraining, "pretrain", pretrain)
    wanted = parse(
        str(tmp_path), "s3://c/d", ["image_size=96", "channels=3", "training=patience=3", "seed=4"]
    )
    started = pretraining.with_pretrained_weights(wanted, print)
    assert started == wanted.model_copy(
        update={
            "init_from": "file:///store/pretrained/one.keras#sha256=" + "0" * 64,
            "training": "patience=3",
        }
    )
    ((drawn, pairs),) = asked
    assert (drawn.image_size, drawn.channels, drawn.seed, drawn.store) == (96, 3, 0, "s3://c/d")
    assert pairs == pretraining.PAIRS
    with pytest.raises(SettingsError, match="already"):
        pretraining.with_pretrained_weights(started, print)
