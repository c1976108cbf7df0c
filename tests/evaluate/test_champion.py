"""The champion, asked for the same test pictures as the challenger."""

import json
import shutil
from pathlib import Path

import pytest
from networks import (
    SIZE,
    Judged,
    gate_rows,
    judge_model,
    pairs_of_test_part,
    resplit,
    run_evaluate,
    write_network,
)

from defectline.components.common.bundle import Bundle, publish_folder, read_bundle
from defectline.components.common.records import Outcome, read_outcome
from defectline.components.common.storage import checksums, open_storage


def _publish(folder: Path, bundle: Bundle, judged: Judged) -> str:
    publish_folder(folder, open_storage(str(judged.store)), f"models/defects/{bundle.version}")
    return bundle.version


def _publish_changed(
    judged: Judged, folder: Path, version: str, data: dict | None = None, reference: str = "", **network
) -> str:
    """A champion of other pictures that differs from the bundle of `judged`: in what bundle.json says of its
    `data`, in arguments of write_network."""
    shutil.copytree(judged.folder, folder)
    stored = json.loads((folder / "bundle.json").read_text())
    stored |= {"version": version, "reference": reference}
    # A champion's metrics in its bundle are of another test split, and not looked at.
    stored["metrics"]["test"] = dict.fromkeys(stored["metrics"]["test"], 0)
    stored["data"].update({"fingerprint": "of other pictures"} | (data or {}))
    (folder / "bundle.json").write_text(json.dumps(stored))
    if network:
        write_network(folder / "openvino/model.xml", **{"size": SIZE, "channels": 1, "cut": 40.0, **network})
    checksums.seal(folder)
    return _publish(folder, read_bundle(folder), judged)


def test_the_champion_is_scored_again_from_the_store(judged, tmp_path):
    champion = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-aaaaaa")
    bundle, result = run_evaluate(judged, tmp_path, "second", cut=70, champion=champion, replace="not_worse")
    assert result.passed
    metrics = json.loads((judged.store / "runs/second/metrics.json").read_text())
    assert metrics["champion_test"] == judged.bundle.metrics["test"]
    rules = gate_rows(judged, "second")
    assert list(rules)[3:] == ["champion_iou", "champion_cost"]
    assert rules["champion_cost"]["reason"] == "the same verdicts as the champion"
    assert bundle.version != judged.bundle.version
    assert (bundle.reference, metrics["reference"]) == (champion, champion)
    assert f"may replace the champion {champion}" in result.summary


def test_a_challenger_that_is_better_replaces_the_champion(judged, tmp_path):
    blind = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-blind", cut=1000)
    _, result = run_evaluate(judged, tmp_path, "better", champion=blind)
    assert result.passed
    row = gate_rows(judged, "better")["champion_cost"]
    assert row["reason"] == "4 fixed escapes, which costs 12 less than the champion"
    page = (tmp_path / "report.html").read_text()
    assert "Escapes of the champion that this version finds (4)" in page
    assert page.count("The champion calls it OK.") == 4
    assert page.index("Escapes of the champion") < page.index("Escapes: defective parts called OK")
    assert row["reason"] in page


def test_the_same_pictures_again_keep_the_champion(judged, tmp_path):
    champion = _publish(judged.folder, judged.bundle, judged)
    _, result = run_evaluate(judged, tmp_path, "same", champion=champion)
    assert result.state == "kept"
    assert gate_rows(judged, "same")["champion_better"]["got"] == 0
    outcome = read_outcome(open_storage(str(judged.store)), "same")
    said = (
        "this version learned from the same pictures with the same settings, and gives the same verdicts "
        "as the champion"
    )
    assert outcome == Outcome(state="kept", reason=f"not better: {said}", version=champion)
    page = (tmp_path / "report.html").read_text()
    assert "not better than the champion</h1>" in page
    assert f"so the champion {champion} stays: {said}." in page
    _, either = run_evaluate(judged, tmp_path / "either", "either", champion=champion, replace="not_worse")
    assert either.passed
    # Who asks for grades gets them from a model that is as good.
    _, graded = run_evaluate(judged, tmp_path / "grades", "grades", champion=champion, grade_b_px=50)
    assert graded.passed
    assert gate_rows(judged, "grades")["champion_cost"]["reason"].endswith(
        "the same verdicts as the champion"
    )


def test_a_worse_model_leaves_the_champion(judged, tmp_path):
    champion = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-better")
    _, result = run_evaluate(
        judged, tmp_path, "worse", cut=1000, champion=champion, min_iou=0, max_escape=1, max_overkill=1
    )
    assert result.state == "refused"
    outcome = read_outcome(open_storage(str(judged.store)), "worse")
    assert outcome.version == champion
    assert "champion_iou" in outcome.reason
    assert "champion_cost" in outcome.reason
    assert f"the champion {champion} stays" in (tmp_path / "report.html").read_text()
    assert gate_rows(judged, "worse")["champion_cost"]["reason"].startswith(
        "4 new escapes, which costs 12 more"
    )


def test_losses_do_not_add_up_the_best_before_is_compared_with(judged, tmp_path):
    """The best of all was replaced by a blind champion: the next one must be as good as the best."""
    best = _publish_changed(judged, tmp_path / "best", "v20260101-000000-best")
    blind = _publish_changed(judged, tmp_path / "blind", "v20260102-000000-blind", reference=best, cut=1000)
    bundle, result = run_evaluate(judged, tmp_path, "after", champion=blind)
    assert (result.state, bundle.reference) == ("kept", best)
    reason = gate_rows(judged, "after")["champion_cost"]["reason"]
    assert reason == f"the same verdicts as {best}, the best before it"
    # Where that is gone, the champion alone is left.
    shutil.rmtree(judged.store / "models/defects" / best)
    bundle, result = run_evaluate(judged, tmp_path / "gone", "after-gone", champion=blind)
    assert (result.state, bundle.reference) == ("passed", blind)


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
    _, result = run_evaluate(judged, tmp_path, f"champion-{damage}", champion=champion)
    assert result.passed
    row = gate_rows(judged, f"champion-{damage}")["champion"]
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
    _, result = run_evaluate(judged, tmp_path, name, champion=champion)
    assert result.passed
    row = gate_rows(judged, name)["champion"]
    assert row["passed"]
    assert why in row["reason"]
    assert "The absolute rules decide" in row["reason"]


def test_a_champion_whose_snapshot_is_gone_is_compared_and_the_row_says_what_that_means(judged, tmp_path):
    champion = _publish_changed(judged, tmp_path / "champion", "v20260101-000000-gone", {"snapshot": "0000"})
    _, result = run_evaluate(judged, tmp_path, "gone", champion=champion, replace="not_worse")
    assert result.passed
    row = gate_rows(judged, "gone")["champion_unseen"]
    assert row["got"] == 8
    assert "the snapshot 0000 of the champion is gone" in row["reason"]
    # It is compared all the same: it can only look better than it is.
    assert "champion_cost" in gate_rows(judged, "gone")


def _seen_by_champion(judged: Judged, folder: Path, name: str, seen: set[str]) -> str:
    """A champion whose snapshot had the test pictures of ids `seen` to train on."""
    snapshot = resplit(judged, name, lambda p: "train" if p.id in seen else p.split)
    return _publish_changed(judged, folder, f"v20260101-000000-{name}", {"snapshot": snapshot})


def test_a_champion_that_has_seen_test_pictures_is_compared_on_the_others(tmp_path):
    judged = judge_model(tmp_path / "more", pairs=60)
    bad = [p.id for p in pairs_of_test_part(judged) if p.label == "NG"]
    assert len(bad) == 6
    champion = _seen_by_champion(judged, tmp_path / "champion", "one", {bad[0]})
    _, result = run_evaluate(judged, tmp_path, "seen", champion=champion)
    assert result.state == "kept"
    rows = gate_rows(judged, "seen")
    assert rows["champion_unseen"]["got"] == 11
    assert "was trained on 1 of 12 test pictures" in rows["champion_unseen"]["reason"]
    assert rows["champion_cost"]["reason"].startswith("the same verdicts")
    metrics = json.loads((judged.store / "runs/seen/metrics.json").read_text())
    assert (metrics["champion_test"]["ng"], metrics["test"]["ng"]) == (5, 6)
    page = (tmp_path / "report.html").read_text()
    assert "Both on the same 5 defective and 6 good test pictures" in page
    assert ">Compared</th>" in page


def test_a_champion_that_has_seen_too_many_test_pictures_leaves_the_absolute_rules(judged, tmp_path):
    bad = [p.id for p in pairs_of_test_part(judged) if p.label == "NG"]
    champion = _seen_by_champion(judged, tmp_path / "champion", "most", set(bad[1:]))
    relaxed = {"min_iou": 0, "max_escape": 1, "max_overkill": 1}
    # It would be far worse than the champion, could the two be compared.
    _, result = run_evaluate(judged, tmp_path, "most", cut=1000, champion=champion, **relaxed)
    assert result.passed
    rows = gate_rows(judged, "most")
    assert list(rows) == ["min_iou", "max_escape", "max_overkill", "champion"]
    assert "trained on 3 of 8 test pictures" in rows["champion"]["reason"]
    assert "too few are left" in rows["champion"]["reason"]
    _, result = run_evaluate(judged, tmp_path / "again", "most-again", cut=1000, champion=champion)
    assert not result.passed
