"""Training on several nodes, whose pods are processes here: it ends well, badly, late or early."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from networks import write_source
from trainer_api import TrainerApi, running, wait_for

from defectline.components.common.storage import checksums
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess
from defectline.components.train.cluster.api import Api
from defectline.components.train.cluster.launcher import train_on_nodes

NODES = {"nodes": 2, "image": "registry/train-jax:1"}
SETTINGS = {"epochs": 40, "quantize": False, "pretraining": "none", "training": "patience=40"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    snapshot = ingest(str(write_source(folder / "source", 20, size=32)), str(folder / "store"))
    preprocess(str(folder / "store"), snapshot, folder / "data", {"image_size": 32})
    return folder / "data"


@pytest.fixture
def trainer(tmp_path) -> Iterator[TrainerApi]:
    (tmp_path / "store").mkdir()
    with running(tmp_path / "pods") as api:
        yield api


def launch(trainer: TrainerApi, dataset: Path, tmp_path: Path, **settings) -> dict[str, float]:
    return train_on_nodes(
        [dataset],
        tmp_path / "model",
        tmp_path / "history.html",
        SETTINGS | settings,
        NODES,
        store=str(tmp_path / "store"),
        api=Api(trainer.url, "vision"),
        every_s=0.1,
    )


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def instead(trainer: TrainerApi, tmp_path: Path, program: str) -> None:
    """The pods run a program of a line in place of ours."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(program)
    trainer.path = str(tmp_path / "path")


@pytest.mark.slow
def test_a_pod_is_lost_and_training_goes_on_to_its_end(trainer, dataset, tmp_path, capfd):
    def evict() -> None:
        wait_for(lambda: any(int(path.stem[-5:]) > 1 for path in (tmp_path / "store").rglob("*.npz")), 900)
        trainer.job.processes[1].kill()

    killer = threading.Thread(target=evict)
    killer.start()
    best = launch(trainer, dataset, tmp_path)
    killer.join()
    said = capfd.readouterr().out
    assert "a pod was lost, and all of them start again" in said
    assert "going on after epoch" in said
    checksums.verify(tmp_path / "model")
    history = json.loads((tmp_path / "model/history.json").read_text())
    assert (len(history), history[int(best["epoch"]) - 1]) == (40, best)
    assert (tmp_path / "history.html").read_text().startswith("<!doctype html>")
    # What it learned stays until it is judged.
    (kept,) = json.loads((tmp_path / "model/model.json").read_text())["checkpoints"]
    assert {path.parent.name for path in files(tmp_path / "store")} == {kept}
    assert trainer.jobs == {}


@pytest.mark.slow
def test_what_the_user_can_fix_ends_it_at_once_and_is_told(trainer, dataset, tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        launch(trainer, dataset, tmp_path, batch_size=3)
    said = capfd.readouterr().out
    assert caught.value.code == 2
    assert "train: The devices cannot share a batch evenly." in said
    assert "Set batch_size to 4" in said
    assert (trainer.jobs, files(tmp_path / "store")) == ({}, [])
    assert len(files(tmp_path / "pods")) == 2, "it started once"


def test_a_crash_is_tried_again_and_then_told(trainer, dataset, tmp_path, capfd):
    told = "print('no such device', flush=True)\n    os._exit(3)"
    program = f"import os, time\nif os.environ['JAX_PROCESS_ID'] == '1':\n    {told}\ntime.sleep(600)"
    instead(trainer, tmp_path, program)
    with pytest.raises(RuntimeError, match="failed: jobset failed due to reaching max number of restarts"):
        launch(trainer, dataset, tmp_path)
    said = capfd.readouterr().out
    assert "the end of the log of process 2:\n  no such device" in said
    assert (trainer.jobs, files(tmp_path / "store")) == ({}, [])
    assert len(files(tmp_path / "pods")) == 12, "once, and five times again"


CANCELLED = """
import sys
from pathlib import Path
from defectline.components.train.cluster.api import Api
from defectline.components.train.cluster.launcher import train_on_nodes
url, dataset, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
nodes = {"nodes": 2, "image": "registry/train-jax:1"}
train_on_nodes([dataset], folder / "model", folder / "page", {}, nodes, store=str(folder / "store"),
               api=Api(url, "vision"), every_s=0.1)
"""


def test_a_run_that_is_cancelled_leaves_no_pods(trainer, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTLINE_RUN", "run-1")
    instead(trainer, tmp_path, "import time\nprint('here', flush=True)\ntime.sleep(600)")
    command = [sys.executable, "-c", CANCELLED, trainer.url, str(dataset), str(tmp_path)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    first = wait_for(lambda: trainer.job)
    assert all(process.poll() is None for process in first.processes)
    # The second launcher of the same step, as after the loss of its pod, follows what is there.
    launcher.kill()
    launcher.communicate()
    again = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert any("going on with TrainJob" in line for line in again.stdout)
    assert len(trainer.made) == 1
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 128 + signal.SIGTERM
    again.stdout.close()
    wait_for(lambda: not trainer.jobs)
    assert all(process.poll() is not None for process in first.processes)


@pytest.mark.parametrize(
    ("method", "status", "message", "told"),
    [
        ("GET", 404, "404 page not found", "The cluster has no TrainJobs."),
        (
            "POST",
            403,
            '{"message": "trainjobs is forbidden"}',
            "kubectl apply -k manifests/training",
        ),
        ("POST", 400, '{"message": "TrainingRuntime not found"}', "TrainingRuntime not found"),
        ("GET", 503, "no healthy upstream", "Kubernetes' API does not answer."),
    ],
)
def test_a_cluster_that_is_not_ready_is_told(
    trainer, dataset, tmp_path, capfd, method, status, message, told
):
    trainer.refusals[method, "trainjobs"] = status, message
    with pytest.raises(SystemExit) as caught:
        launch(trainer, dataset, tmp_path)
    assert caught.value.code == 2
    assert told in capfd.readouterr().out
    assert not files(tmp_path / "store")
