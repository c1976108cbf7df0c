"""Evaluate: counting, calibrating, gating, and the whole step with a network made by hand."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from networks import LIMITS, Judged, judge_model, write_model

from defectline.components.common import checksums
from defectline.components.common.bundle import Bundle, publish_folder, read_bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.imaging import decode_mask
from defectline.components.common.inspection import LEVELS, Network, answer, score_levels
from defectline.components.common.runs import read_gated, read_outcome
from defectline.components.common.snapshot import read_files, read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.evaluate import component
from defectline.components.evaluate.calibration import AREAS_PX, ESCAPE_COST, HIGHEST, LOWEST, Calibrator
from defectline.components.evaluate.evaluating import evaluate
from defectline.components.evaluate.gate import judge, passed
from defectline.components.evaluate.metrics import Count, count, intervals, summarize

# Counting


def _count(label: str, verdict: str, tp: int = 0, fp: int = 0, fn: int = 0, score: float = 0.5) -> Count:
    regions = int(tp + fn > 0)
    return Count("x", label, verdict, score, tp, fp, fn, regions, regions_hit=int(tp > 0))


def _levels(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """(20, 20) levels with boxes of y, x, height, width, level."""
    levels = np.zeros((20, 20), np.uint16)
    for y, x, height, width, level in boxes:
        levels[y : y + height, x : x + width] = level
    return levels


def test_pixels_and_regions_are_counted():
    truth = (_levels((2, 2, 4, 4, 1), (12, 12, 2, 2, 1)) > 0).astype(np.uint8)
    given_answer = answer(_levels((2, 2, 4, 6, 900)), 0.5, 5)
    counted = count("NG/1", "NG", given_answer, truth)
    assert counted == Count("NG/1", "NG", "NG", 0.9, tp=16, fp=8, fn=4, regions=2, regions_hit=1)


def test_true_regions_that_touch_at_a_corner_are_one():
    truth = (_levels((2, 2, 3, 3, 1), (5, 5, 3, 3, 1)) > 0).astype(np.uint8)
    assert count("NG/1", "NG", answer(_levels(), 0.5, 5), truth).regions == 1


def test_nothing_to_find_and_nothing_found_has_no_overlap():
    metrics = summarize([_count("OK", "OK", score=0.1)] * 3)
    assert metrics == {
        "iou": None,
        "dice": None,
        "escape": None,
        "overkill": 0.0,
        "image_auroc": None,
        "image_ap": None,
        "region_recall": None,
        "ng": 0,
        "ok": 3,
    }


def test_perfect_and_all_wrong():
    right = summarize([_count("NG", "NG", tp=9, score=0.9), _count("OK", "OK", score=0.1)])
    assert [right[k] for k in ("iou", "dice", "image_auroc", "image_ap", "region_recall")] == [1.0] * 5
    assert (right["escape"], right["overkill"]) == (0, 0)
    wrong = summarize([_count("NG", "OK", fn=9, score=0.1), _count("OK", "NG", fp=9, score=0.9)])
    assert [wrong[k] for k in ("iou", "dice", "image_auroc", "region_recall")] == [0.0] * 4
    assert (wrong["escape"], wrong["overkill"]) == (1, 1)


def test_only_defective_pictures():
    metrics = summarize([_count("NG", "NG", tp=6, fp=2, fn=2), _count("NG", "OK", fn=10)])
    assert metrics["iou"] == 6 / 20
    assert metrics["dice"] == 12 / 26
    assert (metrics["escape"], metrics["overkill"], metrics["image_auroc"]) == (0.5, None, None)


def test_no_picture_at_all():
    assert summarize([])["iou"] is None
    assert intervals([]) == {"iou": None, "escape": None, "overkill": None}


def test_false_defects_on_good_pictures_lower_the_iou():
    assert summarize([_count("NG", "NG", tp=10), _count("OK", "NG", fp=10)])["iou"] == 0.5


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=12))
def test_intervals_hold_the_estimate(pixels):
    counts = [_count("NG", "NG" if tp else "OK", tp, fp, fn) for tp, fp, fn in pixels]
    spans, metrics = intervals(counts), summarize(counts)
    for key in ("iou", "escape", "overkill"):
        if metrics[key] is None:
            assert spans[key] is None
        else:
            assert 0 <= spans[key].low <= spans[key].high <= 1
    # Wilson's interval holds the rate; the quantiles of a bootstrap need not hold an extreme estimate.
    assert spans["escape"].low - 1e-9 <= metrics["escape"] <= spans["escape"].high + 1e-9


def test_wilson_as_in_the_books():
    span = intervals([_count("NG", "NG", tp=1)] * 10)["escape"]
    assert (span.low, round(span.high, 4)) == (0.0, 0.2775)


def test_the_bootstrap_narrows_with_the_number_of_pictures():
    rng = np.random.default_rng(0)
    counts = [_count("NG", "NG", int(t), 10, 10) for t in rng.integers(10, 100, 400)]
    few, many = intervals(counts[:20])["iou"], intervals(counts)["iou"]
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < summarize(counts)["iou"] < many.high


# Calibrating


def _see(*pictures: tuple[str, np.ndarray]) -> Calibrator:
    calibrator = Calibrator()
    for label, levels in pictures:
        calibrator.see(label, levels)
    return calibrator


def _wrong(calibrator: Calibrator, pictures: list[tuple[str, np.ndarray]]) -> int:
    constants = calibrator.calibrate()
    return sum(answer(levels, *constants).verdict != label for label, levels in pictures)


def test_separable_pictures_are_separated_nearer_to_the_good_ones():
    pictures = [
        ("OK", _levels((1, 1, 6, 6, 200))),
        ("NG", _levels((5, 5, 5, 5, 800))),
        ("NG", _levels((5, 5, 5, 5, 700))),
    ]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    assert calibrator.calibrate(escape_cost=1).threshold == pytest.approx(0.45, abs=0.002)
    assert calibrator.calibrate(escape_cost=3).threshold == pytest.approx(0.325, abs=0.002)


def test_bright_dust_is_told_from_a_dim_defect_by_its_area():
    pictures = [("OK", _levels((1, 1, 2, 4, 950))), ("NG", _levels((5, 5, 5, 5, 500)))]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    assert calibrator.calibrate().min_area_px in (10, 20)


def test_inseparable_pictures_get_the_fewest_wrong_verdicts():
    pictures = [
        ("OK", _levels((5, 5, 5, 5, 600))),
        ("OK", _levels((5, 5, 5, 5, 100))),
        ("NG", _levels((5, 5, 5, 5, 550))),
        ("NG", _levels((5, 5, 5, 5, 900))),
    ]
    assert _wrong(_see(*pictures), pictures) == 1


def test_the_cost_of_an_escape_moves_the_threshold():
    calibrator = _see(
        ("OK", _levels((5, 5, 5, 5, 600))),
        ("NG", _levels((5, 5, 5, 5, 550))),
        ("NG", _levels((5, 5, 5, 5, 900))),
    )
    assert calibrator.calibrate(escape_cost=10).threshold <= 0.55
    assert 0.6 < calibrator.calibrate(escape_cost=0.1).threshold <= 0.9


def test_equal_scores_cannot_be_separated():
    same = _levels((5, 5, 5, 5, 500))
    pictures = [("OK", same), ("NG", same)]
    assert _wrong(_see(*pictures), pictures) == 1


def test_only_good_pictures_get_constants_that_call_all_of_them_good():
    pictures = [("OK", _levels((1, 1, 8, 8, 300))), ("OK", _levels((1, 1, 8, 8, 200)))]
    calibrator = _see(*pictures)
    assert _wrong(calibrator, pictures) == 0
    assert calibrator.calibrate().threshold > 0.3


def test_only_defective_pictures_get_a_threshold_below_all_of_them():
    pictures = [("NG", _levels((5, 5, 5, 5, 300))), ("NG", _levels((5, 5, 5, 5, 800)))]
    assert _wrong(_see(*pictures), pictures) == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["OK", "NG"]), st.integers(0, LEVELS), st.integers(1, 6)),
        min_size=1,
        max_size=8,
    )
)
def test_no_other_constants_cost_less(drawn):
    pictures = [(label, _levels((5, 5, side, side, level))) for label, level, side in drawn]
    calibrator = _see(*pictures)
    constants = calibrator.calibrate()
    assert LOWEST / LEVELS <= constants.threshold <= HIGHEST / LEVELS
    bad = np.array([label == "NG" for label, _ in pictures])
    cuts = np.arange(LOWEST, HIGHEST + 1)
    scores = np.array([[score_levels(levels, area) for area in AREAS_PX] for _, levels in pictures])
    called_bad = scores[..., None] >= cuts
    escapes, overkills = (~called_bad[bad]).sum(axis=0), called_bad[~bad].sum(axis=0)
    given_bad = np.array([answer(levels, *constants).verdict == "NG" for _, levels in pictures])
    cost = ESCAPE_COST * np.sum(~given_bad[bad]) + np.sum(given_bad[~bad])
    assert cost == (ESCAPE_COST * escapes + overkills).min()


# The gate

GOOD = {"iou": 0.8, "escape": 0.05, "overkill": 0.05}


def _failed(challenger: dict, champion: dict | None = None) -> dict[str, str]:
    rules = judge(challenger, champion, **LIMITS)
    return {rule.name: rule.reason for rule in rules if not rule.passed}


def test_a_good_first_model_passes_and_the_rows_say_so():
    rules = judge(GOOD, None, **LIMITS)
    assert passed(rules)
    assert [r.name for r in rules] == ["min_iou", "max_escape", "max_overkill", "champion"]
    assert [r.needed for r in rules] == ["≥ 0.500", "≤ 0.100", "≤ 0.100", "not worse"]
    assert rules[-1].reason == "there is no champion yet"


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"iou": 0.49}, "min_iou", "do not fit"),
        ({"escape": 0.11}, "max_escape", "defective parts pass"),
        ({"overkill": 0.11}, "max_overkill", "thrown away"),
        ({"iou": None}, "min_iou", "no test picture"),
        ({"escape": None}, "max_escape", "no test picture"),
        ({"overkill": None}, "max_overkill", "no test picture"),
    ],
)
def test_each_absolute_rule_fails_alone(change, name, reason):
    failed = _failed({**GOOD, **change})
    assert list(failed) == [name]
    assert reason in failed[name]


def test_the_limits_themselves_pass():
    assert not _failed({"iou": 0.5, "escape": 0.1, "overkill": 0.1})


@pytest.mark.parametrize(
    ("champion", "failed"),
    [
        (GOOD, []),
        ({"iou": 0.6, "escape": 0.1, "overkill": 0.1}, []),
        ({**GOOD, "iou": 0.849}, []),
        ({**GOOD, "iou": 0.86}, ["champion_iou"]),
        ({**GOOD, "escape": 0.04}, ["champion_escape"]),
        ({**GOOD, "overkill": 0.04}, ["champion_overkill"]),
        ({"iou": None, "escape": None, "overkill": None}, []),
    ],
)
def test_the_champion_must_not_be_better(champion, failed):
    assert list(_failed(GOOD, champion)) == failed


def test_a_number_that_the_challenger_lacks_fails_and_one_that_the_champion_lacks_does_not():
    assert "no test picture" in _failed({**GOOD, "iou": None}, GOOD)["champion_iou"]
    rules = judge(GOOD, {**GOOD, "iou": None}, **LIMITS)
    assert {r.name: r.reason for r in rules}["champion_iou"] == "the champion has no such number"


# The whole step


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


def _run(judged: Judged, folder: Path, run: str, cut: float = 40.0, champion: str = "", **limits: float):
    """Judge another model on the same snapshot; returns its bundle and the passed gate."""
    folder.mkdir(exist_ok=True)
    bundle = folder / "bundle"
    result = evaluate(
        str(judged.store),
        judged.snapshot,
        write_model(folder / "model", cut=cut),
        bundle,
        folder / "report.html",
        {**LIMITS, **limits},
        run,
        champion=champion,
        settings="the settings",
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


def test_golden_pictures_are_test_pictures(judged):
    storage = open_storage(str(judged.store))
    test = [p for p in read_pairs(storage, judged.snapshot) if p.split == "test"]
    images = {image for _, image, _ in read_files(storage, test)}
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
    gated = read_gated(storage, "defects")
    assert (gated.run, gated.snapshot, gated.settings) == ("refused", judged.snapshot, "the settings")
    # It never calls anything a defect, so there are golden pictures of one verdict only.
    assert {g.verdict for g in bundle.golden} == {"OK"}
    page = (tmp_path / "report.html").read_text()
    assert "refused by the gate" in page
    assert "Nothing is deployed." in page


def _publish(folder: Path, bundle: Bundle, judged: Judged) -> str:
    publish_folder(folder, open_storage(str(judged.store)), f"models/defects/{bundle.version}")
    return bundle.version


def test_the_champion_is_scored_again_from_the_store(judged, tmp_path):
    """Its own metrics in the bundle are not looked at: they are of another test split."""
    shutil.copytree(judged.folder, tmp_path / "champion")
    stored = json.loads((tmp_path / "champion/bundle.json").read_text())
    stored["version"] = "v20260101-000000-aaaaaa"
    stored["metrics"]["test"] = dict.fromkeys(stored["metrics"]["test"], 0)
    (tmp_path / "champion/bundle.json").write_text(json.dumps(stored))
    checksums.seal(tmp_path / "champion")
    champion = _publish(tmp_path / "champion", read_bundle(tmp_path / "champion"), judged)

    bundle, result = _run(judged, tmp_path, "second", cut=70, champion=champion)
    assert result.passed
    metrics = json.loads((judged.store / "runs/second/metrics.json").read_text())
    assert metrics["champion_test"] == judged.bundle.metrics["test"]
    rules = {r["name"]: r for r in json.loads((judged.store / "runs/second/gate.json").read_text())}
    assert rules["champion_iou"]["passed"]
    assert "champion 1.000" in rules["champion_iou"]["needed"]
    assert bundle.version != judged.bundle.version


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
    assert f"The champion {champion} stays." in (tmp_path / "report.html").read_text()


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
    gate = json.loads((judged.store / f"runs/champion-{damage}/gate.json").read_text())
    assert f"the champion {champion} cannot be loaded" in gate[-1]["reason"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"max_escape": 10}, "setting max_escape"), ({"min_iou": -0.1}, "setting min_iou")],
)
def test_percentages_are_no_rates(judged, tmp_path, capsys, fields, text):
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


def test_a_large_test_split_shows_and_keeps_pictures_of_both_labels(tmp_path):
    """Sorted by name, all defective pictures come first."""
    big = judge_model(tmp_path / "big", pairs=200)
    assert sorted(g.verdict for g in big.bundle.golden) == ["NG", "NG", "OK", "OK"]
    page = big.report.read_text()
    assert page.count("<h3>Good, called OK</h3>") == page.count("<h3>Defective, called NG</h3>") == 8


# The component


@pytest.mark.parametrize(("cut", "verdict"), [(40.0, "passed"), (1000.0, "refused")])
def test_the_component_returns_the_verdict_and_logs_numbers(judged, tmp_path, cut, verdict):
    metrics, roc = dsl.Metrics(uri=str(tmp_path / "metrics")), dsl.ClassificationMetrics(uri=str(tmp_path))
    returned = component.evaluate(
        store=str(judged.store),
        snapshot=judged.snapshot,
        champion="",
        run=f"component-{verdict}",
        model_name="defects",
        settings="",
        model=dsl.Model(uri=str(write_model(tmp_path / "model", cut=cut))),
        bundle=dsl.Model(uri=str(tmp_path / "bundle")),
        metrics=metrics,
        roc=roc,
        report=dsl.HTML(uri=str(tmp_path / "report.html")),
        **LIMITS,
    )
    assert returned == verdict
    assert metrics.metadata["ng"] == 4.0
    assert all(math.isfinite(value) for value in metrics.metadata.values())
    # KFP stores these as JSON, which has no infinity.
    json.dumps(roc.metadata, allow_nan=False)
    assert roc.metadata["confusionMatrix"]["rows"] == [
        {"row": [4, 0]},
        {"row": [0, 4] if verdict == "passed" else [4, 0]},
    ]
    assert read_bundle(tmp_path / "bundle").name == "defects"
    assert (tmp_path / "report.html").stat().st_size > 10_000
