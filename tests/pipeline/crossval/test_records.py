"""What the folds of a compiled cross-validation leave in the store: none hides what became of another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compiled import fill_in_labels
from fake_training import FAILS_ENV, MODEL_ENV
from networks import write_model, write_source

from defectline.components.common.reporting.step_record import find_reason, read_steps
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.runs import list_runs
from defectline.pipeline.compiling import compile_crossval
from defectline.pipeline.kfp_server import reasons
from defectline.pipeline.parameters import parse
from defectline.pipeline.targets import Target

RUN = "0f0b8d4e-6f0e-4a3c-9b7e-1c1d1b3a5e77"
SCRIPT = (
    "import json, sys; from kfp import components, local\n"
    "local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])\n"
    "components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))\n"
)


def train_by_hand(package: Path) -> None:
    """Put the training of `fake_training` in the place of the real one."""
    spec, platform = yaml.safe_load_all(package.read_text())
    command = spec["deploymentSpec"]["executors"]["exec-train-fold"]["container"]["command"]
    changed = [text.replace("defectline.components.train.step", "fake_training") for text in command]
    assert sum(one != other for one, other in zip(command, changed, strict=True)) == 1
    command[:] = changed
    package.write_text(yaml.safe_dump_all([spec, platform]))


def test_a_fold_that_fails_is_told_whatever_others_come_to_before_and_after(tmp_path: Path):
    package, store = tmp_path / "crossval.yaml", FolderStorage(tmp_path / "store")
    # KFP's local runner tries failed steps again, which Argo with KFP's settings does not.
    compile_crossval(package, None, Target(name="cluster", gpus=0, retries=0), parallel=1)
    fill_in_labels(package, RUN)
    train_by_hand(package)
    source = write_source(tmp_path / "source", pairs=42)
    env = {
        "PYTHONPATH": str(Path(__file__).parents[2] / "support"),
        FAILS_ENV: "fold 2 of 3, seed 0",
        MODEL_ENV: str(write_model(tmp_path / "model")),
    }
    given = parse(str(source), store.uri, ["image_size=64", "quantize=false"]).model_dump()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, package, tmp_path / "root", json.dumps({**given, "folds": 3})],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | env,
    )
    assert done.returncode != 0
    records = read_steps(store, RUN)
    # Folds have no order among themselves.
    trained = sorted((one.part, one.state) for one in records if one.step == "train")
    assert trained == [
        ("fold 1 of 3, seed 0", "done"),
        ("fold 2 of 3, seed 0", "failed"),
        ("fold 3 of 3, seed 0", "done"),
    ], done.stdout[-3000:] + done.stderr[-3000:]
    prepared = sorted(one.title for one in records if one.step == "preprocess")
    assert prepared == [f"preprocess of fold {n} of 3" for n in (1, 2, 3)]
    judged = [one for one in records if one.step == "evaluate"]
    assert {one.state for one in judged} == {"done"}
    assert {one.part.removeprefix("fold ") for one in judged} == {
        path.parent.name for path in Path(store.root).glob("runs/crossval-*/counts.json")
    }
    expected = "failed in train of fold 2 of 3, seed 0: The network learned nothing. Got fold 2 of 3, seed 0."
    found = find_reason(records)
    assert found is not None
    assert found.text == expected == reasons.explain(store.uri, RUN)
    assert {row.run: row.reason for row in list_runs(store, 99, pytest.fail)}[RUN] == expected
