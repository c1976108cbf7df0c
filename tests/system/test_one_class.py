"""A source with one class of defects gives, to the bit, the numbers, files and answers of a defectline that
knew no other: they were recorded with it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from networks import judge_model, write_network
from prometheus_client import generate_latest
from small_network import IMAGING, build_small, make_splits

from defectline.components.common.classes import DEFECT, defect_probability
from defectline.components.common.images.imaging import ImagingSettings, prepare_mask
from defectline.components.common.inference import engine
from defectline.components.common.inference.inspection import Grades, answer, to_prediction
from defectline.components.serve.monitoring.metrics import Metrics
from defectline.components.serve.protocol.requests import InferenceRequest, Parameters
from defectline.components.serve.protocol.responses import (
    ImageResult,
    InferenceResponse,
    to_grpc,
    to_legacy,
    to_v1,
    to_v2,
)
from defectline.components.train.loop import fit
from defectline.components.train.network import build_network
from defectline.components.train.settings import TrainSettings
from defectline.components.train.trainer import Trainer


def digest(content: Any) -> str:
    """Of JSON, floats rounded far below what anything shows."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(part) for part in value]
        return round(value, 9) if isinstance(value, float) else value

    return hashlib.sha256(json.dumps(rounded(content), ensure_ascii=False).encode()).hexdigest()[:16]


def spots(seed: int, height: int = 90, width: int = 140) -> np.ndarray:
    """A score map with a few smooth spots, made of whole numbers alone."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    found = np.zeros((height, width), np.int64)
    for _ in range(5):
        cy, cx, r = rng.integers(0, height), rng.integers(0, width), rng.integers(3, 20)
        found = np.maximum(found, 1000 - 1000 * ((y - cy) ** 2 + (x - cx) ** 2) // r**2)
    return found.clip(0, 1000).astype(np.uint16)


def predictions() -> list[dict]:
    return [
        to_prediction(answer(spots(seed), threshold, area), grades, mask=False)
        for seed, threshold, area, grades in (
            (0, 0.5, 10, None),
            (1, 0.2, 40, Grades(a_px=50, b_px=500)),
            (2, 0.999, 4000, None),
        )
    ]


def test_masks_are_prepared_alike():
    made = []
    for seed, size in ((0, 32), (1, 64), (2, 96), (3, 224)):
        mask = (spots(seed) >= 700).astype(np.uint8)
        made.append(prepare_mask(mask, ImagingSettings(image_size=size)).tobytes().hex())
    assert digest(made) == "8b8d2aedffe5d187"


def test_answers_are_alike_in_every_protocol():
    requests = [
        InferenceRequest("v1_json", [b""], Parameters(mask="none")),
        InferenceRequest("v2_json", [b""], Parameters(mask="none", regions=False)),
        InferenceRequest("grpc", [b""], Parameters(mask="none")),
        InferenceRequest("grpc", [b""], Parameters(mask="none"), binary=True),
    ]
    response = InferenceResponse([ImageResult(p, None, 1.5) for p in predictions()], "defects", "v1", "id")
    made = [to_v1(requests[0], response)]
    for request in requests:
        made += [to_v2(request, response)[0].decode("latin1"), str(to_grpc(request, response))]
    made.append(to_legacy(response._replace(results=response.results[:1])))
    assert digest(made) == "d5c919a726af6756"


def test_the_page_for_prometheus_is_alike():
    metrics = Metrics()
    metrics.serves("plates", "v1", "INT8", ("scratch",))
    metrics.by_class.see(predictions()[1])
    page = generate_latest(metrics.registry).decode().splitlines()
    # When each was created is left out, and what is known of the process.
    ours = [line for line in page if "defectline_" in line and "_created" not in line]
    assert digest(ours) == "455dea6dab860e5c"


class Simple:
    """In place of an engine: what is bright is a defect, in whole numbers."""

    takes = gives = None

    def __init__(self, file: Path, threads: int = 0):
        self.takes, self.gives = [64, 64, 1], [64, 64, 2]

    def __call__(self, batch: np.ndarray) -> engine.Seen:
        bright = np.clip(batch[..., 0].astype(np.int64) * 4 - 40, 0, 1000) / 1024
        return engine.Seen(bright.astype(np.float32))


@pytest.mark.parametrize("tile", [False, True])
def test_evaluation_writes_alike(tmp_path, monkeypatch, tile):
    monkeypatch.setitem(engine.ENGINES, "openvino", Simple)
    judged = judge_model(tmp_path, tile=tile)
    folder = judged.store / "runs/one"
    made: list[Any] = [json.loads((folder / name).read_text()) for name in ("gate.json", "counts.json")]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("reference") == ""
    assert [promise["rate"] for promise in metrics.pop("promises")] == ["escape", "overkill"]
    made.append([metrics.pop(name) and None for name in ("version", "created", "snapshot")] + [metrics])
    bundle = json.loads((judged.folder / "bundle.json").read_text())
    assert bundle["imaging"].pop("resize") == "stretch"
    fixed = ("imaging", "threshold", "min_area_px", "metrics", "golden", "served", "classes")
    made.append({name: bundle[name] for name in fixed})
    summary = (folder / "summary.md").read_text().replace(metrics.get("version", ""), "")
    unpromised = " Of other parts less is known: not all of it is promised, see below."
    assert unpromised in summary
    summary = summary.replace(unpromised, "")
    made.append(summary.rpartition("Version ")[0])
    assert digest(made) == ("e6a57ec5960bf260" if tile else "88e7879b9ac11639")


def test_the_network_and_what_openvino_runs_are_alike(tmp_path):
    keras.utils.set_random_seed(0)
    network = build_network(64, decoder="pix2pix")
    assert network.count_params() == 3_804_914
    layers = [type(layer).__name__ for layer in network.layers]
    assert digest([layers, [tuple(weight.shape) for weight in network.weights]]) == "275420e0c87a7cd7"
    write_network(tmp_path / "model.xml", 64, 1, 40.0)
    model = engine._from_bytes_to_defects(engine._core().read_model(tmp_path / "model.xml"))
    kinds = [op.get_type_name() for op in model.get_ordered_ops()]
    assert kinds[-4:] == [
        "Transpose",
        "Constant",
        "Split",
        "Result",
    ]
    assert list(model.output(0).partial_shape)[-1].get_length() == 1


class Former(Trainer):
    """What it was before there were classes."""

    def call(self, inputs, training=False):
        image, mask = (ops.cast(x, "float32") for x in inputs)
        if training:
            image, mask = self.augment(image, mask)
        return defect_probability(self.network(image, training=training)), mask

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        probability, mask = y_pred
        pixels = keras.losses.binary_crossentropy(mask[..., None], probability[..., None])
        cross_entropy = ops.sum(pixels) / ops.maximum(1.0, ops.cast(ops.size(pixels), "float32"))
        overlap = 2 * ops.sum(probability * mask)
        dice = 1 - (overlap + 1) / (ops.sum(probability) + ops.sum(mask) + 1)
        loss = cross_entropy + dice
        self.loss_mean.update_state(loss, sample_weight=ops.cast(ops.shape(mask)[0], "float32"))
        return loss / self.replicas

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probability, mask = y_pred
        self.iou.update_state(mask, probability)
        return {"loss": self.loss_mean.result(), "iou": self.iou.result()}

    @property
    def iou(self):
        if not hasattr(self, "former"):
            self.former = keras.metrics.BinaryIoU(target_class_ids=[DEFECT], threshold=0.5, name="iou")
        return self.former

    @property
    def metrics(self):
        return [self.loss_mean, self.iou]


def test_training_learns_alike(monkeypatch):
    from defectline.components.train import loop

    monkeypatch.setattr(loop, "build_network", build_small)
    settings = TrainSettings(epochs=3, seed=3, learning_rate=1e-2)
    network, history = fit(make_splits(), IMAGING, settings)
    monkeypatch.setattr(loop, "Trainer", Former)
    before, former = fit(make_splits(), IMAGING, settings)
    assert history == former
    for own, other in zip(network.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
