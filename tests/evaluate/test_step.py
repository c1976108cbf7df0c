"""Evaluate: the whole step with a network made by hand, and its component."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl
from networks import LIMITS, SIZE, Judged, judge_model, write_model, write_network

from defectline.components.common import checksums
from defectline.components.common.bundle import Bundle, publish_folder, read_bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.imaging import decode_mask
from defectline.components.common.inspection import Grades, Network, answer
from defectline.components.common.records import read_gate, read_outcome
from defectline.components.common.snapshot import Pair, read_files, read_pairs, write_index
from defectline.components.common.storage import open_storage
from defectline.components.evaluate import component
from defectline.components.evaluate.step import evaluate


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


def _run(
    judged: Judged,
    folder: Path,
    run: str,
    cut: float = 40.0,
    champion: str = "",
    snapshot: str = "",
    **settings: float,
):
    """Judge another model on the same snapshot, or another; returns its bundle and the result."""
    folder.mkdir(exist_ok=True)
    bundle = folder / "bundle"
    result = evaluate(
        str(judged.store),
        snapshot or judged.snapshot,
        write_model(folder / "model", cut=cut),
        bundle,
        folder / "report.html",
        {**LIMITS, **settings},
        run,
        champion=champion,
        settings_key="the settings",
    )
    return read_bundle(bundle), result


def test_the_bundle_is_sealed_and_says_what_it_was_made_of(judged):
    bundle = read_bundle(judged.folder)
    assert bundle.data.snapshot == judged.snapshot
    assert bundle.data.pairs == {"train": 24, "validation": 8, "test": 8}
    assert bundle.metrics["test"]["iou"] > 0.9
    assert bundle.training == {"epochs": 5, "seed": 0, "encoder_weights": "none"}
    assert 0.05 <= bundle.threshold <= 0.95
    for name in ("model.keras", "onnx/model.onnx", "openvino/model.xml", "openvino/model.bin"):
        assert (judged.folder / name).read_bytes() == (judged.model / name).read_bytes()
    assert not (judged.folder / "model.json").exists()


def test_golden_answers_are_those_of_the_network_in_the_bundle(judged):
    bundle = judged.bundle
    assert sorted(g.verdict for g in bundle.golden) == ["NG", "NG", "OK", "OK"]
    network = Network(judged.folder / "openvino/model.xml", bundle.imaging)
    for golden in bundle.golden:
        picture = (judged.folder / "golden" / golden.file).read_bytes()
        given_answer = answer(network.levels(picture), bundle.threshold, bundle.min_area_px)
        assert (given_answer.verdict, given_answer.score) == (golden.verdict, golden.score)
        mask = decode_mask((judged.folder / "golden" / golden.mask_file).read_bytes())
        np.testing.assert_array_equal(given_answer.mask, mask)
        assert golden.content_type == "image/png"


def _test_pairs(judged: Judged) -> list[Pair]:
    return [p for p in read_pairs(open_storage(str(judged.store)), judged.snapshot) if p.split == "test"]


def test_golden_pictures_are_test_pictures(judged):
    storage = open_storage(str(judged.store))
    images = {image for _, image, _ in read_files(storage, _test_pairs(judged))}
    assert {(judged.folder / "golden" / g.file).read_bytes() for g in judged.bundle.golden} <= images


def test_the_run_folder_holds_numbers_gate_and_report(judged):
    run = judged.store / "runs/one"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["version"] == judged.bundle.version
    assert metrics["test"] == judged.bundle.metrics["test"]
    assert metrics["champion_test"] is None
    assert metrics["test_intervals_95"]["escape"][0] == 0
    gate = json.loads((run / "gate.json").read_text())
    assert [set(row) for row in gate] == [{"name", "got", "needed", "passed", "reason"}] * 4
    assert (run / "report.html").read_bytes() == judged.report.read_bytes()
    assert (run / "summary.md").read_text() == judged.result.summary
    assert metrics["grades"] is None
    assert judged.bundle.calibration_note == metrics["calibration_note"] == ""
    assert sum(point["pixels"] for point in metrics["reliability"]) == 8 * SIZE * SIZE
    assert metrics["test"]["pixel_ap"] == 1
    # A passed model's story is ended by deploy.
    assert not (run / "outcome.json").exists()


def test_a_refused_model_ends_the_story_and_is_sealed_all_the_same(judged, tmp_path):
    bundle, result = _run(judged, tmp_path, "refused", cut=1000)
    assert not result.passed
    storage = open_storage(str(judged.store))
    outcome = read_outcome(storage, "refused")
    assert (outcome.state, outcome.version) == ("refused", "")
    assert "min_iou is 0.000, needed ≥ 0.500" in outcome.reason
    assert "max_escape is 1.000, needed ≤ 0.100" in outcome.reason
    gated = read_gate(storage, "defects")
    assert (gated.run, gated.snapshot, gated.settings_key) == ("refused", judged.snapshot, "the settings")
    # It never calls anything a defect, so there are golden pictures of one verdict only.
    assert {g.verdict for g in bundle.golden} == {"OK"}
    page = (tmp_path / "report.html").read_text()
    assert "refused by the gate" in page
    assert "so nothing is deployed." in page


# Against the champion


def _publish(folder: Path, bundle: Bundle, judged: Judged) -> str:
    publish_folder(folder, open_storage(str(judged.store)), f"models/defects/{bundle.version}")
    return bundle.version


def _publish_changed(judged: Judged, folder: Path, version: str, data: dict | None = None, **network) -> str:
    """A champion that differs from the bundle of `judged`: in what bundle.json says of its `data`, in
    arguments of write_network."""
    shutil.copytree(judged.folder, folder)
    stored = json.loads((folder / "bundle.json").read_text())
    stored["version"] = version
    # A champion's metrics in its bundle are of another test split, and not looked at.
    stored["metrics"]["test"] = dict.fromkeys(stored["metrics"]["test"], 0)
    stored["data"].update(data or {})
    (folder / "bundle.json").write_text(json.dumps(stored))
    if network:
        write_network(folder / "openvino/model.xml", **{"size": SIZE, "channels": 1, "cut": 40.0, **network})
    checksums.seal(folder)
    return _publish(folder, read_bundle(folder), judged)


def _resplit(judged: Judged, name: str, split_of: Callable[[Pair], str]) -> str:
    """Another snapshot of the same pictures, with other splits."""
    storage = open_storage(str(judged.store))
    pairs = [p._replace(split=split_of(p)) for p in read_pairs(storage, judged.snapshot)]
    shutil.copytree(judged.store / "snapshots" / judged.snapshot, judged.store / "snapshots" / name)
    write_index(judged.store / "snapshots" / name / "index.parquet", pairs)
    return name


def _gate(judged: Judged, run: str) -> dict[str, dict]:
    rows = json.loads((judged.store / "runs" / run / "gate.json").read_text())
    return {row["name"]: row for row in rows}


def test_the_champion_is_scored_again_from_the_store(judged, tmp_path):
    champion = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-aaaaaa")
    bundle, result = _run(judged, tmp_path, "second", cut=70, champion=champion)
    assert result.passed
    metrics = json.loads((judged.store / "runs/second/metrics.json").read_text())
    assert metrics["champion_test"] == judged.bundle.metrics["test"]
    rules = _gate(judged, "second")
    assert list(rules)[3:] == ["champion_iou", "champion_escape", "champion_overkill"]
    assert rules["champion_escape"]["reason"] == "0 new and 0 mended of 4: not worse than the champion"
    assert bundle.version != judged.bundle.version
    assert f"may replace the champion {champion}" in result.summary


def test_the_same_network_again_passes(judged, tmp_path):
    champion = _publish(judged.folder, judged.bundle, judged)
    _, result = _run(judged, tmp_path, "same", champion=champion)
    assert result.passed
    assert _gate(judged, "same")["champion_iou"]["got"] == 0


def test_a_worse_model_leaves_the_champion(judged, tmp_path):
    champion = _publish(judged.folder, judged.bundle, judged)
    _, result = _run(
        judged, tmp_path, "worse", cut=1000, champion=champion, min_iou=0, max_escape=1, max_overkill=1
    )
    assert not result.passed
    outcome = read_outcome(open_storage(str(judged.store)), "worse")
    assert outcome.version == champion
    assert "champion_iou" in outcome.reason
    assert "champion_escape" in outcome.reason
    assert f"the champion {champion} stays" in (tmp_path / "report.html").read_text()
    assert _gate(judged, "worse")["champion_escape"]["reason"].startswith("4 new and 0 mended of 4")


@pytest.mark.parametrize("damage", ["missing", "changed", "unloadable"])
def test_a_champion_that_cannot_be_loaded_is_said_so(judged, tmp_path, damage):
    champion = f"v20260101-000000-{damage}"
    if damage != "missing":
        target = judged.store / "models/defects" / champion
        shutil.copytree(judged.folder, target)
        with (target / "openvino/model.xml").open("a") as file:
            file.write("<broken")
        if damage == "unloadable":
            checksums.seal(target)
    _, result = _run(judged, tmp_path, f"champion-{damage}", champion=champion)
    assert result.passed
    row = _gate(judged, f"champion-{damage}")["champion"]
    assert f"the champion {champion} cannot be loaded" in row["reason"]
    assert f"Nothing to compare: the champion {champion}" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "network", "why"),
    [
        ("classes", {"defects": 2}, "it gives 64×64×3"),
        ("size", {"size": 96}, "it takes 96×96×1"),
        ("diverged", {"cut": float("nan")}, "The network gives no probabilities. Got NaN"),
    ],
)
def test_a_champion_that_gives_other_answers_is_not_compared(judged, tmp_path, name, network, why):
    version = f"v20260101-000000-{name}"
    champion = _publish_changed(judged, tmp_path / "champion", version, **network)
    _, result = _run(judged, tmp_path, name, champion=champion)
    assert result.passed
    row = _gate(judged, name)["champion"]
    assert row["passed"]
    assert why in row["reason"]
    assert "The absolute rules decide" in row["reason"]


def test_a_champion_whose_snapshot_is_gone_is_compared_and_the_row_says_what_that_means(judged, tmp_path):
    champion = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-gone", {"snapshot": "0000"})
    _, result = _run(judged, tmp_path, "gone", champion=champion)
    assert result.passed
    row = _gate(judged, "gone")["champion_unseen"]
    assert row["got"] == 8
    assert "the champion's snapshot 0000 is gone" in row["reason"]
    # It is compared all the same: it can only look better than it is.
    assert "champion_escape" in _gate(judged, "gone")


def _seen_by_champion(judged: Judged, folder: Path, name: str, seen: set[str]) -> str:
    """A champion whose snapshot had the test pictures of ids `seen` to train on."""
    snapshot = _resplit(judged, name, lambda p: "train" if p.id in seen else p.split)
    return _publish_changed(judged, folder, f"v20260101-000000-{name}", {"snapshot": snapshot})


def test_a_champion_that_has_seen_test_pictures_is_compared_on_the_others(tmp_path):
    judged = judge_model(tmp_path / "more", pairs=60)
    bad = [p.id for p in _test_pairs(judged) if p.label == "NG"]
    assert len(bad) == 6
    champion = _seen_by_champion(judged, tmp_path / "champion", "one", {bad[0]})
    _, result = _run(judged, tmp_path, "seen", champion=champion)
    assert result.passed
    rows = _gate(judged, "seen")
    assert rows["champion_unseen"]["got"] == 11
    assert "was trained on 1 of 12 test pictures" in rows["champion_unseen"]["reason"]
    assert rows["champion_escape"]["reason"].startswith("0 new and 0 mended of 5")
    metrics = json.loads((judged.store / "runs/seen/metrics.json").read_text())
    assert (metrics["champion_test"]["ng"], metrics["test"]["ng"]) == (5, 6)
    page = (tmp_path / "report.html").read_text()
    assert "Both on the same 5 defective and 6 good test pictures" in page
    assert ">Compared</th>" in page


def test_a_champion_that_has_seen_too_many_test_pictures_leaves_the_absolute_rules(judged, tmp_path):
    bad = [p.id for p in _test_pairs(judged) if p.label == "NG"]
    champion = _seen_by_champion(judged, tmp_path / "champion", "most", set(bad[1:]))
    relaxed = {"min_iou": 0, "max_escape": 1, "max_overkill": 1}
    # It would be far worse than the champion, could the two be compared.
    _, result = _run(judged, tmp_path, "most", cut=1000, champion=champion, **relaxed)
    assert result.passed
    rows = _gate(judged, "most")
    assert list(rows) == ["min_iou", "max_escape", "max_overkill", "champion"]
    assert "trained on 3 of 8 test pictures" in rows["champion"]["reason"]
    assert "too few are left" in rows["champion"]["reason"]
    _, result = _run(judged, tmp_path / "again", "most-again", cut=1000, champion=champion)
    assert not result.passed


# Splits of one label


@pytest.mark.parametrize(("label", "note"), [("OK", "only good"), ("NG", "only defective")])
def test_validation_pictures_of_one_label_give_a_threshold_and_a_note(judged, tmp_path, capsys, label, note):
    def one_label(pair: Pair) -> str:
        return "train" if pair.split == "validation" and pair.label != label else pair.split

    snapshot = _resplit(judged, f"validation-{label}", one_label)
    bundle, result = _run(judged, tmp_path, f"validation-{label}", snapshot=snapshot)
    assert result.passed
    assert note in bundle.calibration_note
    assert bundle.calibration_note in (tmp_path / "report.html").read_text()
    assert bundle.calibration_note in result.summary
    assert f"WARNING: {bundle.calibration_note}" in capsys.readouterr().out
    assert bundle.metrics["validation"]["image_auroc"] is None


def test_no_validation_picture_stops_with_the_fix(judged, tmp_path, capsys):
    snapshot = _resplit(judged, "no-validation", lambda p: "train" if p.split == "validation" else p.split)
    with pytest.raises(SystemExit) as caught:
        _run(judged, tmp_path, "no-validation", snapshot=snapshot)
    assert caught.value.code == 2
    assert "no validation picture" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["OK", "NG"])
def test_a_test_split_of_one_label_is_refused_by_name(judged, tmp_path, label):
    def one_label(pair: Pair) -> str:
        return "train" if pair.split == "test" and pair.label != label else pair.split

    snapshot = _resplit(judged, f"test-{label}", one_label)
    _, result = _run(judged, tmp_path, f"test-{label}", snapshot=snapshot)
    assert not result.passed
    assert result.roc is None
    failed = {"OK": ["min_iou", "max_escape"], "NG": ["max_overkill"]}[label]
    rows = _gate(judged, f"test-{label}")
    assert [name for name, row in rows.items() if not row["passed"]] == failed
    assert {rows[name]["reason"] for name in failed} == {"there is no test picture to measure it on"}


# Settings


def test_grades_are_in_the_bundle_the_numbers_and_the_report(judged, tmp_path):
    areas = sorted(p.defect_px for p in _test_pairs(judged) if p.label == "NG")
    limits = {"grade_a_px": areas[0], "grade_b_px": areas[-2]}
    bundle, _ = _run(judged, tmp_path, "graded", **limits)
    assert bundle.grades == Grades(a_px=areas[0], b_px=areas[-2])
    metrics = json.loads((judged.store / "runs/graded/metrics.json").read_text())
    # The network finds these defects to the pixel.
    assert metrics["grades"] == {
        "limits": {"a_px": areas[0], "b_px": areas[-2]},
        "OK": {"A": 1.0, "B": 0.0, "reject": 0.0},
        "NG": {"A": 0.25, "B": 0.5, "reject": 0.25},
    }
    page = (tmp_path / "report.html").read_text()
    assert "1 of 4 (25 %)" in page
    assert "Grade reject." in page


def test_the_cost_of_an_escape_reaches_calibration_and_report(judged, tmp_path):
    cheap, _ = _run(judged, tmp_path / "cheap", "cheap", escape_cost=0.2)
    dear, _ = _run(judged, tmp_path / "dear", "dear", escape_cost=20)
    assert dear.threshold < judged.bundle.threshold < cheap.threshold
    assert "an escape costing 20.0 overkills" in (tmp_path / "dear/report.html").read_text()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_escape": 10}, "setting max_escape"),
        ({"min_iou": -0.1}, "setting min_iou"),
        ({"escape_cost": 0}, "setting escape_cost"),
        ({"grade_a_px": 9, "grade_b_px": 8}, "setting grade_b_px"),
        ({"grade_a_px": 9}, "setting grade_b_px"),
    ],
)
def test_settings_that_make_no_sense_are_named(judged, tmp_path, capsys, fields, text):
    with pytest.raises(SystemExit) as caught:
        _run(judged, tmp_path, "percent", **fields)
    assert caught.value.code == 2
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["changed", "extra", "unsealed", "sums"])
def test_a_model_that_is_not_what_was_sealed_is_not_judged(tmp_path, damage):
    model = write_model(tmp_path / "model")
    if damage == "changed":
        with (model / "openvino/model.bin").open("ab") as file:
            file.write(b"x")
    elif damage == "extra":
        (model / "more.txt").write_text("x")
    elif damage == "unsealed":
        (model / checksums.NAME).unlink()
    else:
        (model / checksums.NAME).write_bytes(b"\xff no list")
    with pytest.raises(BundleError):
        checksums.verify(model)


def test_evaluate_reports_a_changed_model_and_writes_nothing(judged, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(tmp_path))
    model = write_model(tmp_path / "model")
    (model / "openvino/model.xml").write_text("<net/>")
    arguments = (str(judged.store), judged.snapshot, model, tmp_path / "bundle", tmp_path / "report.html")
    with pytest.raises(SystemExit) as caught:
        evaluate(*arguments, LIMITS, "changed")
    assert caught.value.code == 2
    assert "is not what was sealed" in capsys.readouterr().out
    error = BundleError.from_json((tmp_path / "error.json").read_text())
    assert "openvino/model.xml" in error.what
    assert not (tmp_path / "bundle").exists()
    assert not (judged.store / "runs/changed").exists()


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


def test_a_large_test_split_shows_and_keeps_pictures_of_both_labels(tmp_path):
    """Sorted by name, all defective pictures come first."""
    big = judge_model(tmp_path / "big", pairs=200)
    assert sorted(g.verdict for g in big.bundle.golden) == ["NG", "NG", "OK", "OK"]
    page = big.report.read_text()
    assert page.count("<h3>Good, called OK") == page.count("<h3>Defective, called NG") == 8


# The component


def _component(judged: Judged, folder: Path, run: str, cut: float = 40.0, snapshot: str = ""):
    """Run it; returns what it returned, with its metrics, its curves and the folder of its files."""
    metrics, roc = dsl.Metrics(uri=str(folder / "metrics")), dsl.ClassificationMetrics(uri=str(folder))
    returned = component.evaluate(
        store=str(judged.store),
        snapshot=snapshot or judged.snapshot,
        champion="",
        run=run,
        model_name="defects",
        escape_cost=3.0,
        grade_a_px=0,
        grade_b_px=0,
        settings_key="",
        model=dsl.Model(uri=str(write_model(folder / "model", cut=cut))),
        bundle=dsl.Model(uri=str(folder / "bundle")),
        metrics=metrics,
        roc=roc,
        report=dsl.HTML(uri=str(folder / "report.html")),
        summary=dsl.Markdown(uri=str(folder / "summary.md")),
        **LIMITS,
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
    snapshot = _resplit(
        judged, "component-OK", lambda p: "train" if (p.split, p.label) == ("test", "NG") else p.split
    )
    returned, metrics, roc = _component(judged, tmp_path, "component-one-label", snapshot=snapshot)
    assert returned == "refused"
    assert "escape" not in metrics
    assert metrics["overkill"] == 0
    assert roc.keys() == {"confusionMatrix"}
    json.dumps([metrics, roc], allow_nan=False)
