"""Cross-validation, with a network too small to learn anything: here, by several workers, and compiled."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import SMALL_NETWORK, contents, defectline
from compiled import CLUSTER

from defectline.components.common.images.sample import generate_samples
from defectline.pipeline.compiling import compile_crossval
from defectline.pipeline.parameters import parse
from defectline.pipeline.tuning.study import Trial

pytestmark = pytest.mark.slow
SETTINGS = ("image_size=32", "quantize=false", "epochs=1", "pretraining=none")
TINY = [text for pair in SETTINGS for text in ("--set", pair)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crossval") / "source"
    generate_samples(folder, pairs=24, size=32)
    return folder


@pytest.fixture(scope="module")
def here(source: Path) -> tuple[Path, str]:
    """The store and the output of a cross-validation by two workers."""
    store = source.with_name("store")
    command = ("crossval", source, "--store", store, "--folds", "2", "--workers", "2", *TINY)
    done = defectline(*command, env=SMALL_NETWORK)
    assert (done.returncode, done.stderr) == (0, "")
    assert "seed 0, fold 2 of 2: train: exporting" in done.stdout
    return store, done.stdout


def table_of(output: str) -> list[str]:
    lines = output.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("seed "))
    return lines[start : start + 2]


def came_to(store: Path) -> dict[str, bytes]:
    """What is kept of the folds, and of all together."""
    files = [*store.glob("runs/crossval-*/counts.json"), *store.glob("crossval/*.json")]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def test_the_command_keeps_its_folds_and_goes_on(here, source, tmp_path):
    store, output = here
    judged = sorted(store.glob("runs/crossval-*/counts.json"))
    rows = [row for path in judged for row in json.loads(path.read_text())]
    assert len(judged) == 2
    assert len({row["id"] for row in rows}) == len(rows) == 24
    wrong = sum(row["verdict"] != row["label"] for row in rows if row["label"] == "NG")
    table = dict(zip(*[re.split(r"\s{2,}", line.strip()) for line in table_of(output)], strict=True))
    assert table["seed"] == "0"
    assert float(table["escape"]) == pytest.approx(wrong / 12, abs=0.001)
    (path,) = store.glob("crossval/*.json")
    kept = json.loads(path.read_text())
    assert kept["seeds"][0]["escape"] == pytest.approx(wrong / 12)
    assert {run["run"] for run in kept["runs"]} == {path.parent.name for path in judged}
    assert "epochs=1" in kept["settings"]
    assert not contents(store / "checkpoints")
    # Folds judge settings: nothing of them is in the log of what serves, and no run is under way.
    assert not (store / "audit.jsonl").exists()
    assert {path.parent.name for path in store.glob("runs/*/*")} == {path.parent.name for path in judged}

    other = tmp_path / "store"
    shutil.copytree(store, other)
    (other / "runs" / judged[0].parent.name / "counts.json").unlink()
    # One worker comes to what two have come to.
    again = defectline("crossval", source, "--store", other, "--folds", "2", *TINY, env=SMALL_NETWORK)
    assert again.returncode == 0
    assert again.stdout.count("train: exporting") == 1
    assert came_to(other) == came_to(store)
    assert table_of(again.stdout) == table_of(output)


def test_compiled_and_run_by_kfp_it_comes_to_the_same(here, source, tmp_path):
    package, root, store = tmp_path / "crossval.yaml", tmp_path / "root", tmp_path / "store"
    compile_crossval(package, None, CLUSTER, parallel=2)
    given = parse(str(source), str(store), list(SETTINGS)).model_dump()
    script = (
        "import json, sys; from kfp import components, local\n"
        "local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])\n"
        "components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, package, root, json.dumps({**given, "folds": 2, "seeds": 1})],
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ | SMALL_NETWORK,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert came_to(store) == came_to(here[0])
    (summary,) = root.glob("*/collect/summary")
    assert " | ".join(table_of(here[1])[1].split()) in summary.read_text()


def test_a_tune_takes_the_folds_that_are_there_and_measures(here, source, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(here[0], store)
    command = ["tune", source, "--store", store, "--trials", "1", "--folds", "2", "--all-pictures", *TINY]
    done = defectline(*command, "--max-latency", "1000", env=SMALL_NETWORK)
    assert done.returncode == 0, done.stdout + done.stderr
    # Of the first fold, what its network takes was not known yet.
    assert done.stdout.count("train: exporting") == 1
    (path,) = store.glob("tuning/*/trials/*.json")
    trial = Trial.model_validate_json(path.read_text())
    assert trial.footprint is not None
    assert 0.05 < trial.footprint.latency_ms < 1000
    assert 50 < trial.footprint.memory_mb < 2000
    assert [fold.pictures for fold in trial.folds] == [12, 12]
    assert came_to(store) == came_to(here[0])
    limited = defectline(*command, "--max-latency", "0.001", env=SMALL_NETWORK)
    assert limited.returncode == 2
    assert "No trial keeps the limits" in limited.stderr
    assert "train: exporting" not in limited.stdout


def test_a_worker_that_is_killed_ends_the_others_and_what_is_done_is_kept(source, tmp_path):
    store = tmp_path / "store"
    settings = [text.replace("epochs=1", "epochs=500") for text in TINY]
    command = [Path(sys.executable).with_name("defectline"), "crossval", source]
    command += ["--store", store, "--folds", "2", "--workers", "2", *settings]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | SMALL_NETWORK
    )
    assert process.stdout is not None
    begun = set()
    for line in process.stdout:
        if found := re.search(r"(fold \d) of 2: train: epoch", line):
            begun.add(found[1])
        if len(begun) == 2:
            break
    # An epoch is told before its checkpoint is written, and one fold may have written several by now.
    while len({path.parent for path in store.glob("checkpoints/*/*.npz")}) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    trainings = [child for child in children if "defectline.components.train" in child.cmdline()]
    assert len(trainings) == 2
    trainings[0].send_signal(signal.SIGKILL)
    output, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "signal 9" in output + told
    assert not [child for child in children if child.is_running()]
    assert len(list(store.glob("checkpoints/*"))) == 2
