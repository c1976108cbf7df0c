"""The evaluate step with a network made by hand: the bundle, the run's files, the gate, and settings."""

import json
import shutil

import numpy as np
import pytest
from networks import (
    LIMITS,
    SIZE,
    Judged,
    draw,
    gate_rows,
    pairs_of_test_part,
    resplit,
    run_evaluate,
    write_model,
    write_source,
)
from PIL import Image

from defectline.components.common.bundle import bundle_roi, copy_served, read_bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.roi import write_roi
from defectline.components.common.inference.inspection import Grades, answer, judge_score
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import roi_key
from defectline.components.common.records import read_gate, read_outcome
from defectline.components.common.snapshot import Pair, read_files, read_pairs, write_index
from defectline.components.common.storage import checksums, open_storage
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest.step import ingest


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
        given_answer = answer(network.score_map(picture), bundle.threshold, bundle.min_area_px)
        assert (given_answer.verdict, given_answer.score) == (golden.verdict, golden.score)
        mask = decode_mask((judged.folder / "golden" / golden.mask_file).read_bytes())
        np.testing.assert_array_equal(given_answer.mask, mask)
        assert golden.content_type == "image/png"


def test_golden_pictures_are_test_pictures(judged):
    storage = open_storage(str(judged.store))
    images = {image for _, image, _ in read_files(storage, pairs_of_test_part(judged))}
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
    # The outcome of a passed model's run is recorded by deploy.
    assert not (run / "outcome.json").exists()


def test_a_refused_model_ends_the_run_and_is_sealed_all_the_same(judged, tmp_path):
    bundle, result = run_evaluate(judged, tmp_path, "refused", cut=1000)
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
    assert outcome.advice == ""


def test_what_training_advises_reaches_who_reads_the_outcome(judged, tmp_path):
    model, bundle, report = (tmp_path / name for name in ("model", "bundle", "report.html"))
    content = json.loads((write_model(model, cut=1000) / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(content | {"advice": "Try <more> steps."}))
    checksums.seal(model)
    result = evaluate(str(judged.store), judged.snapshot, model, bundle, report, LIMITS, "advised")
    outcome = read_outcome(open_storage(str(judged.store)), "advised")
    assert outcome.advice == "Try <more> steps."
    assert "Try &lt;more&gt; steps." in report.read_text()
    assert "Try <more> steps." in result.summary


@pytest.mark.parametrize("label", ["OK", "NG"])
def test_a_test_split_of_one_label_is_refused_by_name(judged, tmp_path, label):
    def one_label(pair: Pair) -> str:
        return "train" if pair.split == "test" and pair.label != label else pair.split

    snapshot = resplit(judged, f"test-{label}", one_label)
    _, result = run_evaluate(judged, tmp_path, f"test-{label}", snapshot=snapshot)
    assert not result.passed
    assert result.roc is None
    failed = {"OK": ["min_iou", "max_escape"], "NG": ["max_overkill"]}[label]
    rows = gate_rows(judged, f"test-{label}")
    assert [name for name, row in rows.items() if not row["passed"]] == failed
    assert {rows[name]["reason"] for name in failed} == {"there is no test picture to measure it on"}


def test_outside_of_the_region_of_interest_there_are_no_defects(judged, tmp_path):
    """It leaves out the defect of one picture."""
    storage = open_storage(str(judged.store))
    files = {pair.id: (pair, mask) for pair, _, mask in read_files(storage, pairs_of_test_part(judged))}
    hidden, truth = next((id, decode_mask(mask)) for id, (pair, mask) in files.items() if pair.defect_px)
    roi = 1 - truth
    digest, file = write_roi(roi)
    storage.write(roi_key(digest), file)
    snapshot = resplit(judged, "framed", lambda pair: pair.split)
    index = judged.store / "snapshots/framed/index.parquet"
    write_index(index, [pair._replace(roi=digest) for pair in read_pairs(storage, judged.snapshot)])
    run_evaluate(judged, tmp_path, "framed", snapshot=snapshot)
    counts = {row["id"]: row for row in json.loads((judged.store / "runs/framed/counts.json").read_text())}
    assert [counts[hidden][key] for key in ("verdict", "tp", "fp", "fn")] == ["OK", 0, 0, 0]
    copy_served(tmp_path / "bundle", tmp_path / "served")
    for folder in ("bundle", "served"):
        assert np.array_equal(bundle_roi(tmp_path / folder), roi)
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="outside"') == page.count("<article")
    assert f"{100 * roi.mean():.0f} % of every picture, at the endpoint too" in page
    assert "the endpoint applies none" not in page


def test_regions_that_differ_are_not_applied_by_the_endpoint_which_is_said(judged, tmp_path, capsys):
    storage = open_storage(str(judged.store))
    digest, file = write_roi(np.eye(SIZE, dtype=np.uint8))
    storage.write(roi_key(digest), file)
    snapshot = resplit(judged, "some-framed", lambda pair: pair.split)
    index = judged.store / "snapshots/some-framed/index.parquet"
    rows = read_pairs(storage, judged.snapshot)
    write_index(index, [pair._replace(roi=digest if pair.label == "OK" else "") for pair in rows])
    run_evaluate(judged, tmp_path, "some-framed", snapshot=snapshot)
    assert bundle_roi(tmp_path / "bundle") is None
    said = "differ from picture to picture: the endpoint will apply none"
    assert said in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "Regions of interest differ from picture to picture: the endpoint applies none" in page
    assert 0 < page.count('class="outside"') < page.count("<article")


def test_grades_are_in_the_bundle_the_numbers_and_the_report(judged, tmp_path):
    areas = sorted(p.defect_px for p in pairs_of_test_part(judged) if p.label == "NG")
    limits = {"grade_a_px": areas[0], "grade_b_px": areas[-2]}
    bundle, _ = run_evaluate(judged, tmp_path, "graded", **limits)
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


@pytest.mark.parametrize("kept", [0, 12])
def test_without_masks_verdicts_are_judged_and_pixels_where_there_are_some(tmp_path, kept):
    """Of 20 defective pictures, as many as `kept` have a mask."""
    source, store = write_source(tmp_path / "source"), tmp_path / "store"
    shutil.rmtree(source / "OK_MSK")
    for path in sorted((source / "NG_MSK").iterdir())[kept:]:
        path.unlink()
    snapshot, model = ingest(str(source), str(store), "one"), write_model(tmp_path / "model")
    page = tmp_path / "report.html"
    result = evaluate(str(store), snapshot, model, tmp_path / "bundle", page, LIMITS, "one")
    test = result.metrics["test"]
    known = [p.masked for p in read_pairs(open_storage(str(store)), snapshot) if p.split == "test"]
    assert (test["ng"], test["ng_masked"]) == (len(known) - 4, known.count(True) - 4)
    assert (test["escape"], test["image_auroc"], result.passed) == (0, 1, True)
    counts = json.loads((store / "runs/one/counts.json").read_text())
    assert [count.get("masked", True) for count in counts] == known
    metrics = json.loads((store / "runs/one/metrics.json").read_text())
    assert bool(metrics["reliability"]) == bool(kept)
    said = (
        f"IoU, Dice and regions are over {test['ng_masked']} of {test['ng']} defective test pictures"
        if kept
        else f"None of the {test['ng']} defective test pictures has a mask"
    )
    assert said in page.read_text()
    assert said in result.summary
    assert "Where its defect is, no mask says." in page.read_text()
    if not kept:
        assert (test["iou"], test["pixel_ap"], test["region_recall"]) == (None, None, None)


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory) -> Judged:
    """Half of the pictures of each label show a faint line, which nobody could tell a scratch by."""
    folder = tmp_path_factory.mktemp("doubtful") / "one"
    source, random = write_source(folder / "source", pairs=120), np.random.default_rng(5)
    for label in ("OK", "NG"):
        for number in range(0, 60, 2):
            image, mask = draw("NG", random, light=int(random.integers(132, 152)))
            Image.fromarray(image).save(source / label / f"{number:03d}.png")
            if label == "NG":
                Image.fromarray(mask).save(source / "NG_MSK" / f"{number:03d}.png")
    store, model = folder / "store", write_model(folder / "model")
    snapshot = ingest(str(source), str(store), "one")
    settings = {"min_iou": 0, "max_escape": 0.2, "max_overkill": 0.2, "look_as": "LOOK", "max_look": 0.9}
    bundle, report = folder / "bundle", folder / "report.html"
    result = evaluate(str(store), snapshot, model, bundle, report, settings, "one")
    return Judged(store, source, snapshot, model, bundle, read_bundle(bundle), report, result)


def test_where_no_threshold_keeps_both_promises_a_person_looks(doubtful):
    bundle, test = doubtful.bundle, doubtful.result.metrics["test"]
    assert bundle.threshold < bundle.ng_from
    assert [promise.holds for promise in bundle.promises] == [True, True]
    assert test["look"] > 0.1
    assert [golden.verdict for golden in bundle.golden].count("LOOK") == 2
    assert doubtful.result.called == ("OK", "LOOK", "NG")
    rows = gate_rows(doubtful, "one")
    assert rows["max_look"]["got"] == test["look"]
    counts = json.loads((doubtful.store / "runs/one/counts.json").read_text())
    assert {row["verdict"] for row in counts} == {"OK", "LOOK", "NG"}
    assert all(
        judge_score(row["score"], bundle.threshold, bundle.ng_from) == row["verdict"] for row in counts
    )
    page = doubtful.report.read_text()
    for said in (
        "LOOK: parts that a person has to look at",
        "to be looked at by a person (LOOK)",
        "No single threshold keeps max_escape and max_overkill",
        f"NG score ≥ {bundle.ng_from:.3f}, LOOK lies between",
    ):
        assert said in page, said


def test_by_default_nobody_gets_a_verdict_that_he_does_not_know(doubtful, tmp_path):
    settings = {"max_escape": 0.2, "max_overkill": 0.2, "min_iou": 0}
    bundle, result = run_evaluate(doubtful, tmp_path / "as", "as-ng", **settings)
    assert bundle.ng_from is None
    assert bundle.threshold == doubtful.bundle.threshold
    assert [promise.holds for promise in bundle.promises] == [True, False]
    assert "look" not in result.metrics["test"]
    assert "with look_as=LOOK a person would look at them" in bundle.calibration_note
