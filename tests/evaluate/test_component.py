"""The evaluate step as KFP runs it."""

import json
import math
from pathlib import Path

import pytest
from kfp import dsl
from networks import LIMITS, Judged, resplit, write_model

from defectline.components.common.bundle import read_bundle
from defectline.components.evaluate import component
from defectline.components.evaluate.settings import EvaluateSettings


def _component(judged: Judged, folder: Path, run: str, cut: float = 40.0, snapshot: str = ""):
    """Run it; returns what it returned, with its metrics, its curves and the folder of its files."""
    metrics, roc = dsl.Metrics(uri=str(folder / "metrics")), dsl.ClassificationMetrics(uri=str(folder))
    returned = component.evaluate(
        store=str(judged.store),
        snapshot=snapshot or judged.snapshot,
        champion="",
        run=run,
        model_name="defects",
        settings_key="",
        model=dsl.Model(uri=str(write_model(folder / "model", cut=cut))),
        bundle=dsl.Model(uri=str(folder / "bundle")),
        metrics=metrics,
        roc=roc,
        report=dsl.HTML(uri=str(folder / "report.html")),
        summary=dsl.Markdown(uri=str(folder / "summary.md")),
        **(EvaluateSettings().model_dump() | LIMITS),
    )
    return returned, metrics.metadata, roc.metadata


@pytest.mark.parametrize(("cut", "verdict"), [(40.0, "passed"), (1000.0, "refused")])
def test_the_component_returns_the_verdict_and_logs_numbers(judged, tmp_path, cut, verdict):
    returned, metrics, roc = _component(judged, tmp_path, f"component-{verdict}", cut)
    assert returned == verdict
    assert metrics["ng"] == 4.0
    assert all(math.isfinite(value) for value in metrics.values())
    # KFP stores these as JSON, which has no infinity.
    json.dumps(roc, allow_nan=False)
    assert roc["confusionMatrix"]["rows"] == [
        {"row": [4, 0]},
        {"row": [0, 4] if verdict == "passed" else [4, 0]},
    ]
    assert read_bundle(tmp_path / "bundle").name == "defects"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith(f"# defects: {verdict}")
    assert ("| min_iou | passed | 1.000 | ≥ 0.500 |" in summary) == (verdict == "passed")
    assert ("| min_iou | **failed** | 0.000 | ≥ 0.500 |" in summary) == (verdict == "refused")


def test_a_test_split_of_one_label_logs_what_has_a_value(judged, tmp_path):
    snapshot = resplit(
        judged, "component-OK", lambda p: "train" if (p.split, p.label) == ("test", "NG") else p.split
    )
    returned, metrics, roc = _component(judged, tmp_path, "component-one-label", snapshot=snapshot)
    assert returned == "refused"
    assert "escape" not in metrics
    assert metrics["overkill"] == 0
    assert roc.keys() == {"confusionMatrix"}
    json.dumps([metrics, roc], allow_nan=False)
