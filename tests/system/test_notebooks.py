"""The notebooks, from top to bottom in a kernel of their own, on few small pictures; and what git gets of
them."""

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from commands import SMALL_NETWORK
from kfp_api import KfpApi, running
from nbclient import NotebookClient
from paths import ROOT
from PIL import Image

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.storage import open_storage

NOTEBOOKS = ROOT / "notebooks"
NAMES = ("one_time_setup", "development", "train_and_infer")
SMALL = (
    "image_size=64 epochs=2 batch_size=8 pretraining=none quantize=false "
    "min_iou=0 max_escape=1 max_overkill=1"
)


@pytest.mark.parametrize("name", NAMES)
def test_git_gets_no_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"cell {cell.id}: run `jupyter nbconvert --clear-output --inplace`"
        assert not cell.get("execution_count")


def test_every_notebook_is_run_here():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)


def test_development_learns_with_its_defaults(monkeypatch):
    """300 pairs have 180 images to train on. In 450 steps of batches of 2 the validation IoU rose to 0.57."""
    for name in [name for name in os.environ if name.startswith("NOTEBOOK_")]:
        monkeypatch.delenv(name)
    notebook = nbformat.read(NOTEBOOKS / "development.ipynb", as_version=4)
    defaults: dict[str, object] = {}
    exec(notebook.cells[1].source, defaults)
    names = ("PAIRS", "IMAGE_SIZE", "EPOCHS", "BATCH_SIZE")
    assert [defaults[name] for name in names] == [300, 224, 5, 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    generate_samples(folder / "samples", pairs=24, size=64)
    return folder


@pytest.fixture
def settings(monkeypatch, place) -> None:
    for name in ("KFP_HOST", "KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SMALL_NETWORK.items():
        monkeypatch.setenv(name, value)
    small = {"PAIRS": "24", "IMAGE_SIZE": "64", "EPOCHS": "2", "BATCH_SIZE": "8", "SET": SMALL}
    for name, value in small.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", value)


def run(name: str, folder: Path) -> tuple[str, list[np.ndarray]]:
    """All that the cells print, and the pictures that they show, as uint8 (H, W, 3); CellExecutionError where
    one fails. With NOTEBOOK_PICTURES the pictures go to that folder as well."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    for noise in ("absl::", "Warning:", "cuda", " s left", "▸"):
        assert noise not in text
    pictures = [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]
    for number, png in enumerate(pictures):
        if keep := os.environ.get("NOTEBOOK_PICTURES"):
            Path(keep, f"{name}-{number}.png").write_bytes(png)
    return text, [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pictures]


@pytest.mark.slow
def test_setup_without_a_cluster(place, settings):
    text, _ = run("one_time_setup", place)
    assert "KFP_HOST is not set: no schedule was made" in text
    assert (place / "pipeline.yaml").exists()


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


@pytest.mark.slow
def test_setup_with_a_cluster(place, settings, server, s3_server, monkeypatch):
    uri = f"s3://{s3_server.new_bucket()}"
    for key, value in (s3_server.env | {"KFP_HOST": server.host}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("NOTEBOOK_SOURCE", f"{uri}/labelled")
    monkeypatch.setenv("NOTEBOOK_STORE", f"{uri}/store")
    labelled = open_storage(f"{uri}/labelled")
    for path in (place / "samples").rglob("*.png"):
        labelled.upload(path, str(path.relative_to(place / "samples")))
    text, _ = run("one_time_setup", place)
    assert f"{server.host} answers, version 2.17.0" in text
    (schedule,) = server.recurring_runs.values()
    assert schedule.runtime_config.parameters["source"] == f"{uri}/labelled"
    assert text.count("05:00:00 UTC") == 6


@pytest.mark.slow
def test_development(place, settings):
    text, pictures = run("development", place)
    assert "24 pairs" in text
    assert "train: 2 epochs" in text
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.std() > 10


@pytest.mark.slow
def test_train_and_infer(place, settings):
    text, pictures = run("train_and_infer", place)
    assert "deployed: " in text
    assert "KFP_HOST is not set: nothing was submitted" in text
    assert len(pictures) == 2
    # Above the picture stands the verdict, in its colour.
    assert any((pictures[-1] == colour).all(axis=-1).any() for colour in ((231, 76, 60), (46, 160, 90)))
