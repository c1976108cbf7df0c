"""A study with a real endpoint."""

import csv
from pathlib import Path

import pytest
from endpoints import plate, serving
from signed import make_signed

from defectline.client import Client
from defectline.components.common.bundle import copy_served
from defectline.pipeline.qualification.qualify import qualify
from defectline.pipeline.qualification.report import sections, summary, to_html, to_pdf
from defectline.pipeline.qualification.study import read_study


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_signed(tmp_path_factory.mktemp("signed") / "all", patch, versions=1)


@pytest.fixture(scope="module")
def endpoint(signed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    copy_served(signed.store.root / "models/defects" / signed.version, folder / "model")
    with serving(folder / "model", folder / "log", name="defects") as running:
        yield running


def write_study(folder: Path, wrong: int = 0) -> Path:
    """Ten parts, each taken twice, with two people; the truth of the first `wrong` is turned round."""
    rows = []
    for part in range(10):
        label = ("OK", "NG")[part % 2]
        truth = label if part >= wrong else {"OK": "NG", "NG": "OK"}[label]
        for time in range(2):
            name = f"{part}-{time}.png"
            (folder / name).write_bytes(plate(seed=100 + 10 * part + time, label=label))
            rows.append([name, f"part {part}", truth, label, label if part else "NG"])
    with (folder / "study.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "part", "truth", "anna", "ben"], *rows])
    return folder / "study.csv"


def run(signed, endpoint, study: Path, varied: int = 2, trusted=None):
    keys = [signed.key.public] if trusted is None else trusted
    with Client(endpoint.url, "defects") as client:
        return qualify(client, signed.store, read_study(study), keys, 0.05, varied, lambda: None)


def test_a_good_endpoint_is_qualified(signed, endpoint, tmp_path):
    found = run(signed, endpoint, write_study(tmp_path))
    assert found.passed, summary(found)
    assert found.version == signed.version
    assert (found.endpoint.effectiveness, found.endpoint.misses) == ((10, 10), (0, 5))
    assert found.endpoint.repeated == (10, 10)
    assert found.endpoint.kappa == 1
    assert found.people["anna"].effectiveness == (10, 10)
    assert found.people["ben"].false_alarms == (1, 5)
    assert {(one.first, one.second): one.alike for one in found.pairs} == {
        ("endpoint", "anna"): 20,
        ("endpoint", "ben"): 18,
        ("anna", "ben"): 18,
    }
    rows = {row.what: row.passed for row in (*found.installation, *found.operation)}
    assert rows["chain"]
    assert rows["golden answers"]
    assert rows["half a picture is refused"]
    told = {row.what: row.found for row in (*found.installation, *found.operation)}
    assert told["the same picture again"] == "3 answers, all alike; all must be alike"
    assert told["another model is refused"] == "HTTP 404; it must be HTTP 404"
    assert "answered as sealed: the same verdict, a score within 0.01" in told["golden answers"]
    assert found.warnings == []
    rates = next(one for one in sections(found) if one.title == "PQ: rates")
    assert "effectiveness from 0.9, or 0.8; miss rate up to 0.02, or 0.05; false alarm" in rates.text
    assert [one.asked for one in found.changes if one.name == "1 px aside"] == [8]
    # Five defective parts prove no rate below 45 %.
    assert not found.claim_holds


def test_one_that_is_wrong_is_not(signed, endpoint, tmp_path):
    found = run(signed, endpoint, write_study(tmp_path, wrong=2), varied=0)
    assert not found.passed
    assert len(found.wrong) == 4
    assert "the miss rate is not acceptable; the false alarm rate is not" in summary(found)
    assert found.changes == []


def test_a_store_that_was_changed(signed, endpoint, tmp_path):
    copy = signed.copied(tmp_path / "copy")
    (copy.store.root / "runs/one/gate.json").write_text("[]")
    found = run(copy, endpoint, write_study(tmp_path), varied=0)
    assert not found.passed
    row = next(row for row in found.installation if row.what == "chain")
    assert row.found.startswith(f"results of {signed.version}: ")


def test_the_report_as_page_and_on_paper(signed, endpoint, tmp_path, browser):
    found = run(signed, endpoint, write_study(tmp_path, wrong=1))
    page, paper = tmp_path / "qualification.html", tmp_path / "qualification.pdf"
    page.write_text(to_html(found), encoding="utf-8")
    to_pdf(found, paper)
    assert paper.read_bytes().startswith(b"%PDF-")
    for width in (1280, 360):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("h2").all_text_contents() == [one.title for one in sections(found)]
        assert "is not qualified" in tab.locator(".all").text_content()
        tab.close()
