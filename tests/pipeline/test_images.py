"""The references by which a pipeline names its images."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from compiled import executors
from containers import BUILT

from defectline.components.common.errors import SettingsError
from defectline.pipeline.images import TARGETS, Images, load_images

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.usefixtures("clean")
def test_the_default_is_this_version():
    assert Images.load().serve == f"ghcr.io/defectline/defectline-serve:{version('defectline')}"
    assert Images.load().train == f"ghcr.io/defectline/defectline-train:{version('defectline')}"
    on_gpu = Images.load(on_gpu=["train", "serve"])
    assert on_gpu.serve == f"ghcr.io/defectline/defectline-serve-gpu:{version('defectline')}"
    assert on_gpu.train == f"ghcr.io/defectline/defectline-train-gpu:{version('defectline')}"
    on_nodes = Images.load(on_nodes=True)
    assert on_nodes.train == f"ghcr.io/defectline/defectline-train-jax:{version('defectline')}"
    assert on_nodes.serve == Images.load().serve
    assert load_images(["local-gpu"])["local-gpu"].count("defectline-local-gpu:") == 1
    assert load_images(["local"]) == {"local": f"ghcr.io/defectline/defectline-local:{version('defectline')}"}


@pytest.mark.usefixtures("clean")
def test_the_lock_file_beats_the_default_and_the_environment_beats_both(monkeypatch, tmp_path):
    locked = {target: f"127.0.0.1:5000/defectline-{target}@{DIGEST}" for target in TARGETS}
    Path("images.lock.json").write_text(json.dumps(locked))
    other = tmp_path / "other.json"
    other.write_text(json.dumps({t: f"registry.local:5000/team/{t}:1.2.0" for t in BUILT if t != "ingest"}))
    monkeypatch.setenv("DEFECTLINE_IMAGE_INGEST", "mine/ingest:dev-3")
    monkeypatch.setenv("DEFECTLINE_IMAGE_TRAIN_GPU", "mine/train:cuda")

    assert Images.load().serve == locked["serve"]
    assert Images.load().ingest == "mine/ingest:dev-3"
    assert Images.load().train == locked["train"]
    assert Images.load(on_gpu=["train"]).train == "mine/train:cuda"
    assert Images.load(other).serve == "registry.local:5000/team/serve:1.2.0"
    monkeypatch.delenv("DEFECTLINE_IMAGE_INGEST")
    with pytest.raises(SettingsError, match="names no image for ingest"):
        Images.load(other)
    # A lock of an older clone, which nothing but a tune misses.
    other.write_text(json.dumps({t: f"registry.local:5000/team/{t}:1.2.0" for t in BUILT if t != "local"}))
    assert Images.load(other).ingest == "registry.local:5000/team/ingest:1.2.0"
    with pytest.raises(SettingsError, match="names no image for local"):
        load_images(["local"], other)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    "image",
    [
        "serve",
        "team/serve:latest",
        "localhost:5000/serve",
        "localhost:5000/serve:latest",
        "serve@sha256:123",
        f"serve@sha512:{'0' * 64}",
        "serve:1 ",
        "serve:",
        "two words:1",
    ],
)
def test_what_is_not_pinned_is_refused(image, monkeypatch, tmp_path):
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"serve": image}))
    with pytest.raises(SettingsError, match=r"entry serve of .*lock\.json does not pin"):
        Images.load(lock)
    monkeypatch.setenv("DEFECTLINE_IMAGE_SERVE", image)
    with pytest.raises(SettingsError, match="DEFECTLINE_IMAGE_SERVE does not pin") as raised:
        Images.load()
    assert raised.value.got == image


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "There is no lock file"),
        ("{", "cannot be read"),
        ("[]", "names images that no component uses"),
        (json.dumps({"server": "a:1"}), "names images that no component uses"),
        (json.dumps({"serve": 1}), "does not pin an image"),
    ],
)
def test_a_lock_file_that_is_wrong_is_refused(text, what, tmp_path):
    lock = tmp_path / "lock.json"
    if text is not None:
        lock.write_text(text)
    with pytest.raises(SettingsError, match=what):
        Images.load(lock)


def test_images_are_pinned(documents):
    for container in executors(documents[0]).values():
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"].rpartition("/")[2]
