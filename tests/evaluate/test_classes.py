"""Several classes, and what does not count: counted by hand, and through the whole step."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from kinds import CLASSES, snapshot_of_kinds, write_kinds, write_kinds_model, write_kinds_network
from networks import LIMITS

from defectline.components.common.bundle import read_bundle
from defectline.components.common.images.colours import colour_of
from defectline.components.common.inference.inspection import Answer, answer
from defectline.components.common.snapshot import read_pairs, write_index
from defectline.components.common.storage import checksums, open_storage
from defectline.components.evaluate.classes import (
    confusion_of_regions,
    count_classes,
    disregard,
    summarize_class,
)
from defectline.components.evaluate.metrics import count
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.reporting.curves import at_thresholds
from defectline.components.evaluate.scoring import escape_costs
from defectline.components.evaluate.settings import Costs, EvaluateSettings
from defectline.components.evaluate.step import evaluate


def blocks(*placed: tuple[int, int, int]) -> np.ndarray:
    """(20, 40) with a block of 4 × 6 for each y, x and number."""
    made = np.zeros((20, 40), np.uint8)
    for y, x, number in placed:
        made[y : y + 4, x : x + 6] = number
    return made


def test_regions_are_counted_by_true_and_found_class():
    truth = blocks((2, 2, 1), (2, 20, 2), (10, 2, 2), (10, 30, 3))
    found = blocks((2, 2, 1), (2, 22, 1), (10, 20, 3))
    counts = count_classes(Answer("NG", 1.0, [], found), truth, CLASSES)
    assert sorted(counts.regions) == [(0, 3), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert (counts.tp, counts.fp, counts.fn) == ((24, 0, 0), (24, 0, 24), (0, 48, 24))
    assert confusion_of_regions([counts], CLASSES) == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    second = summarize_class([(counts, False), (counts, True)], 2)
    assert (second.pictures, second.escape, second.iou, second.regions) == (2, 0.5, 0.0, 4)
    assert (second.region_recall, second.region_class, second.rare) == (0.5, 0.0, True)


def test_what_does_not_count_is_neither_found_nor_missed_nor_too_much():
    truth = blocks((2, 2, 1), (2, 20, 255), (10, 2, 255))
    score_map = np.zeros((20, 40), np.uint16)
    score_map[2:6, 2:8], score_map[2:6, 20:26] = 900, 900
    score_map[9:14, 1:8] = 900  # mostly within, and sticking out around it
    kept, judged = disregard(score_map, truth, 500)
    given = answer(kept, 0.5, 5)
    counted = count("NG/1", "NG", given, judged)
    assert (counted.tp, counted.fp, counted.fn, counted.regions_hit) == (24, 0, 0, (1, 0, 0))
    assert len(given.regions) == 1
    pixels = Pixels()
    pixels.see(kept, judged)
    assert pixels.bad.sum() == 24
    assert pixels.good.sum() == 20 * 40 - 3 * 24 - (5 * 7 - 24)
    # A good picture is not called NG for it.
    only, _ = disregard(score_map, np.where(truth == 1, 255, truth), 500)
    assert answer(only, 0.5, 5).verdict == "OK"


def test_a_region_that_lies_mostly_outside_counts_there():
    truth, score_map = blocks((2, 20, 255)), np.zeros((20, 40), np.uint16)
    score_map[2:6, 18:32] = 900
    kept, judged = disregard(score_map, truth, 500)
    counted = count("OK/1", "OK", answer(kept, 0.5, 5), judged)
    assert (counted.verdict, counted.fp) == ("NG", 4 * 8)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> tuple[Path, str, Path]:
    """Store, snapshot and model."""
    folder = tmp_path_factory.mktemp("kinds")
    snapshot = snapshot_of_kinds(write_kinds(folder / "source", good=20, each=12), folder / "store")
    return folder / "store", snapshot, write_kinds_model(folder / "model")


def judge_kinds(kinds: tuple[Path, str, Path], folder: Path, run: str, **settings: object) -> dict:
    """What evaluate wrote as JSON, by name."""
    store, snapshot, model = kinds
    folder.mkdir(exist_ok=True)
    champion = str(settings.pop("champion", ""))
    evaluate(
        str(store),
        snapshot,
        model,
        folder / "bundle",
        folder / "report.html",
        {**LIMITS, **settings},
        run,
        champion=champion,
    )
    written = store / "runs" / run
    return {
        name: json.loads((written / f"{name}.json").read_text()) for name in ("metrics", "gate", "counts")
    }


def test_a_model_of_three_classes_is_judged_by_class(kinds, tmp_path):
    found = judge_kinds(kinds, tmp_path, "three", by_class="max_escape.dent=0.02, min_iou.stain=0.5")
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.classes == CLASSES
    by_class = found["metrics"]["test_classes"]
    assert list(by_class) == [*CLASSES]
    assert all(each["iou"] == 1 and each["region_class"] == 1 for each in by_class.values())
    table = found["metrics"]["regions_found_as"]
    assert table["classes"] == ["good", *CLASSES]
    diagonal = np.diag(table["rows_true_columns_found"])
    assert diagonal.sum() == np.sum(table["rows_true_columns_found"]) > 0
    # What does not count looks like a scratch, and is none.
    assert (found["metrics"]["test"]["iou"], found["metrics"]["test"]["overkill"]) == (1.0, 0.0)
    rows = {row["name"]: row for row in found["gate"]}
    assert rows["max_escape.dent"]["needed"] == "≤ 0.020"
    assert rows["max_escape.dent"]["passed"] is (by_class["dent"]["pictures"] >= 5)
    report, summary = (tmp_path / "report.html").read_text(), (kinds[0] / "runs/three/summary.md").read_text()
    assert report.index("This version and the champion") < report.index("<h2>Classes</h2>")
    assert report.index("<h2>Classes</h2>") < report.index("Escapes: defective parts called OK")
    assert report.count(">Found (dashed): ") == report.count('>Truth: <span class="kind"') > 0
    assert report.count("<td>too rare to judge</td>") == sum(each["rare"] for each in by_class.values())
    assert "dotted: does not count" in report
    assert "| dent | " in summary


@pytest.mark.parametrize("width", [1280, 360])
def test_the_report_shows_each_class_by_name_and_colour(kinds, tmp_path, browser, width):
    found = judge_kinds(kinds, tmp_path, f"shown-{width}")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    table = tab.locator("table", has_text="right ones are marked")
    assert [head.strip() for head in table.locator("thead th").all_inner_texts()] == [
        "True",
        *CLASSES,
        "missed",
    ]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    nothing, *of_classes = found["metrics"]["regions_found_as"]["rows_true_columns_found"]
    assert rows == [[str(n) for n in [*row[1:], row[0]]] for row in of_classes] + [
        [*(str(n) for n in nothing[1:]), ""]
    ]
    assert table.locator(".right").all_inner_texts() == [str(row[n]) for n, row in enumerate(of_classes, 1)]
    colours = {
        name: tab.locator(".kind", has_text=name).first.evaluate("e => getComputedStyle(e).backgroundImage")
        for name in CLASSES
    }
    for number, name in enumerate(CLASSES, start=1):
        assert "rgb" + str(colour_of(number)) in colours[name]
    tab.close()


def test_a_class_too_rare_to_judge_says_so(kinds, tmp_path, capsys):
    limits = {"max_escape.scratch": 0.02, "min_iou.scratch": 0.1}
    few = resplit_few(kinds)
    text = ", ".join(f"{key}={value}" for key, value in limits.items())
    store, _, model = kinds
    rows = {
        row["name"]: row for row in judge_kinds((store, few, model), tmp_path, "few", by_class=text)["gate"]
    }
    for name in limits:
        assert not rows[name]["passed"]
        assert "too rare to judge" in rows[name]["reason"]
    assert rows["class.dent"]["passed"]
    assert "too rare to judge" in rows["class.dent"]["reason"]


def resplit_few(kinds: tuple[Path, str, Path]) -> str:
    """A snapshot with few test pictures of each class."""
    store, snapshot, _ = kinds
    shutil.copytree(store / "snapshots" / snapshot, store / "snapshots/few")
    seen: dict[str, int] = {}
    rows = []
    for pair in read_pairs(open_storage(str(store)), snapshot):
        if pair.split == "test" and pair.label == "NG":
            seen[pair.areas] = seen.get(pair.areas, 0) + 1
            split = "test" if seen[pair.areas] <= 1 else "train"
            pair = pair._replace(split=split)
        rows.append(pair)
    write_index(store / "snapshots/few/index.parquet", rows)
    return "few"


def test_a_limit_for_a_class_that_there_is_not(kinds, tmp_path, capsys):
    with pytest.raises(SystemExit):
        judge_kinds(kinds, tmp_path, "unknown", by_class="max_escape.crack=0.1")
    assert "There is no class crack to set max_escape for." in capsys.readouterr().out


def test_a_champion_of_other_classes_is_compared_by_its_verdicts(kinds, tmp_path):
    store, _, _ = kinds
    champion = tmp_path / "champion"
    judge_kinds(kinds, champion, "champion")
    target = store / "models/defects/v1"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads((champion / "bundle/bundle.json").read_text())
    content["classes"] = ["crack", "hole"]
    content["data"]["fingerprint"] = "of other pictures"
    (champion / "bundle/bundle.json").write_text(json.dumps(content))
    write_kinds_network(champion / "bundle/openvino/model.xml", kinds=2)
    checksums.seal(champion / "bundle")
    (champion / "bundle").rename(target)
    found = judge_kinds(kinds, tmp_path / "own", "compared", champion="v1")
    rows = {row["name"]: row for row in found["gate"]}
    assert rows["champion_iou"]["reason"] == "not compared: it knows other classes"
    assert rows["champion_cost"]["reason"].startswith("the same verdicts")
    assert "knows other classes (crack, hole)" in rows["champion_unseen"]["reason"]


def test_a_source_without_good_pictures_cannot_measure_overkill(tmp_path):
    source = write_kinds(tmp_path / "source", each=12)
    snapshot = snapshot_of_kinds(source, tmp_path / "store")
    store = open_storage(str(tmp_path / "store"))
    bad = [pair for pair in read_pairs(store, snapshot) if pair.label == "NG"]
    write_index(tmp_path / "store/snapshots" / snapshot / "index.parquet", bad)
    kinds = tmp_path / "store", snapshot, write_kinds_model(tmp_path / "model")
    found = judge_kinds(kinds, tmp_path / "judged", "all-bad")
    rows = {row["name"]: row for row in found["gate"]}
    assert all(row["passed"] for row in rows.values())
    assert rows["max_overkill"]["got"] is None
    assert "the source has no good picture" in rows["max_overkill"]["reason"]
    assert found["metrics"]["test"]["overkill"] is None
    assert "only defective validation pictures" in found["metrics"]["calibration_note"]
    bundle = read_bundle(tmp_path / "judged/bundle")
    assert [golden.verdict for golden in bundle.golden] == ["NG", "NG"]


def test_the_cost_of_an_escape_may_differ_by_class(kinds, tmp_path):
    truth = blocks((2, 2, 1), (10, 2, 3))
    for by_class, cost in {
        "escape_cost.scratch=10": None,
        "escape_cost.stain=10": 10.0,
        "escape_cost.stain=1": 3.0,
        "escape_cost.stain=1,escape_cost.dent=2": 2.0,
    }.items():
        assert escape_costs(CLASSES, truth, EvaluateSettings(by_class=by_class)) == cost


def test_the_threshold_table_counts_what_the_escape_of_a_class_costs():
    truth = {number: blocks((2, 2, number)) for number in (1, 2)}
    missed = Answer("OK", 0.25, [], blocks())
    counts = [count(f"NG/{number}", "NG", missed, truth[number], CLASSES) for number in (1, 2)]
    (row,) = [row for row in at_thresholds(counts, [0.5], Costs(3.0, 0.2, {2: 10.0})) if row.chosen]
    assert (row.escapes, row.cost) == (2, 13.0)
