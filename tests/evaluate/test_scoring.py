"""What is chosen on validation pictures, and what stops it."""

import json

import pytest
from networks import LIMITS, resplit, run_evaluate, write_model

from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import checksums
from defectline.components.evaluate.step import evaluate


@pytest.mark.parametrize(("label", "note"), [("OK", "only good"), ("NG", "only defective")])
def test_validation_pictures_of_one_label_give_a_threshold_and_a_note(judged, tmp_path, capsys, label, note):
    def one_label(pair: Pair) -> str:
        return "train" if pair.split == "validation" and pair.label != label else pair.split

    snapshot = resplit(judged, f"validation-{label}", one_label)
    bundle, result = run_evaluate(judged, tmp_path, f"validation-{label}", snapshot=snapshot)
    assert result.passed
    assert note in bundle.calibration_note
    assert bundle.calibration_note in (tmp_path / "report.html").read_text()
    assert bundle.calibration_note in result.summary
    assert f"WARNING: {bundle.calibration_note}" in capsys.readouterr().out
    assert bundle.metrics["validation"]["image_auroc"] is None


def test_no_validation_picture_stops_with_the_fix(judged, tmp_path, capsys):
    snapshot = resplit(judged, "no-validation", lambda p: "train" if p.split == "validation" else p.split)
    with pytest.raises(SystemExit) as caught:
        run_evaluate(judged, tmp_path, "no-validation", snapshot=snapshot)
    assert caught.value.code == 2
    assert "no validation picture" in capsys.readouterr().out


def test_the_cost_of_an_escape_reaches_calibration_and_report(judged, tmp_path):
    cheap, _ = run_evaluate(judged, tmp_path / "cheap", "cheap", escape_cost=0.2)
    dear, _ = run_evaluate(judged, tmp_path / "dear", "dear", escape_cost=20)
    assert dear.threshold < judged.bundle.threshold < cheap.threshold
    assert "an escape costing 20.0 overkills" in (tmp_path / "dear/report.html").read_text()


def test_a_network_of_another_size_than_its_settings_is_not_judged(judged, tmp_path, capsys):
    model = write_model(tmp_path / "model", size=96)
    content = json.loads((model / "model.json").read_text())
    content["imaging"]["image_size"] = 64
    (model / "model.json").write_text(json.dumps(content))
    checksums.seal(model)
    arguments = (str(judged.store), judged.snapshot, model, tmp_path / "bundle", tmp_path / "report.html")
    with pytest.raises(SystemExit) as caught:
        evaluate(*arguments, LIMITS, "size")
    assert caught.value.code == 2
    printed = capsys.readouterr().out
    assert "is a network for other pictures or classes" in printed
    assert "it takes 96×96×1" in printed
    assert "64×64×1" in printed
