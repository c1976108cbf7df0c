"""Weights to start from, with a network too small to learn anything."""

import json
import re
from pathlib import Path

import pytest
from commands import defectline

from defectline.components.common.errors import SettingsError
from defectline.components.common.images.sample import generate_samples
from defectline.pipeline import pretraining
from defectline.pipeline.parameters import Parameters, parse

TINY = ("--set", "image_size=32", "--set", "quantize=false", "--set", "epochs=1")


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
