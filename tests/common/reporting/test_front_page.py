"""The front page of a store."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from counts import stored_counts
from playwright.sync_api import Browser

from defectline.components.common.layout import COUNTS, FRONT_PAGE, METRICS, REPORT, champion_key, run_key
from defectline.components.common.records import ChampionRecord, Outcome, read_outcome, write_outcome
from defectline.components.common.reporting.front_page import end_run, write_page
from defectline.components.common.storage.folder import FolderStorage

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def put(store: FolderStorage, run: str, state: str, answered: list[dict], model: str = "plates") -> None:
    version = f"v2026-{run}"
    test = {"ng": 5, "ok": 5, "escape": 0.2, "overkill": 0.0, "iou": 0.71}
    metrics = {
        "model": model,
        "version": version,
        "test": test,
        "test_intervals_95": {"escape": [0.036, 0.624], "overkill": [0.0, 0.434]},
    }
    store.write(run_key(run, METRICS), json.dumps(metrics).encode())
    store.write(run_key(run, COUNTS), json.dumps(answered).encode())
    store.write(run_key(run, REPORT), b"<p>a report")
    write_outcome(store, run, Outcome(state=state, reason=f"because of <{run}>", version=version))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    (tmp_path / "store").mkdir()
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def used(store: FolderStorage) -> FolderStorage:
    """Three champions, of which the second was tested on more pictures, a refused run and one under way."""
    put(store, "one", "deployed", stored_counts("1 3", range(6), tp=5))
    put(store, "two", "deployed", stored_counts("1", range(10), tp=7))
    put(store, "three", "refused", stored_counts("1 2 3"))
    put(store, "four", "deployed", stored_counts("8", range(12)))
    store.write("runs/five/config.yaml", b"")
    store.write("runs/crossval-x-1/metrics.json", b"{}")
    return store


def test_an_empty_store_says_so(store: FolderStorage):
    page = write_page(store, NOW)
    assert "No run has reached its gate yet." in page
    assert "2026-01-02 03:04 UTC" in page


def test_champion_promises_runs_and_links_are_there(used: FolderStorage):
    page = write_page(used, NOW)
    assert "Champion <code>v2026-four</code>" in page
    assert "1 of 5 defective parts escaped (95 % interval 3.6 to 62.4 %)" in page
    assert "0 of 5 good parts rejected (95 % interval 0.0 to 43.4 %)" in page
    assert "outlines overlap by 0.71 (IoU)" in page
    assert page.count('href="runs/three/report.html"') == 1
    assert "because of &lt;three&gt;" in page
    assert ">unfinished<" in page
    assert "crossval-" not in page
    # Links work wherever the store is moved to.
    links = re.findall('href="([^"]+)"', page)
    assert links
    assert all((used.root / link).exists() for link in links)


@pytest.mark.parametrize(("holds", "box"), [(True, "champion"), (False, "champion unpromised")])
def test_a_champion_of_which_not_all_is_promised_is_marked_as_in_its_report(store, holds, box):
    put(store, "one", "deployed", stored_counts("1"))
    metrics = json.loads(store.read(run_key("one", METRICS)))
    promise = {"rate": "escape", "at_most": 0.1, "pictures": 30, "level": 0.3, "holds": holds}
    store.write(run_key("one", METRICS), json.dumps(metrics | {"promises": [promise]}).encode())
    assert f'<div class="{box}">' in write_page(store, NOW)


def test_what_settings_were_compared_is_there(store: FolderStorage):
    seeds = [{"seed": seed, "iou": 0.5, "escape": None, "overkill": 0.25} for seed in (0, 1)]
    mean = {"iou": 0.5, "escape": None, "overkill": 0.25}
    two = {"seeds": seeds, "mean": mean, "runs": [{}] * 8, "settings": "decoder=light epochs=4"}
    store.write("crossval/abc.json", json.dumps(two).encode())
    one = {"seeds": seeds[:1], "runs": [{}] * 4, "settings": "decoder=pix2pix epochs=4"}
    store.write("crossval/one.json", json.dumps(one).encode())
    store.write("crossval/damaged.json", b"{")
    store.write("crossval/empty.json", json.dumps({"seeds": [], "mean": "x"}).encode())
    store.write("tuning/9f/index.html", b"<p>a tune")
    store.write("tuning/9f/trials/0.json", b"{}")
    page = write_page(store, NOW)
    assert page.count('data-of="overkill">0.250<') == page.count('data-of="escape">–<') == 2
    assert page.count('data-of="folds">4<') == 2
    assert page.count("<td>decoder=light</td>") == page.count("<td>decoder=pix2pix</td>") == 1
    links = re.findall('href="([^"]+)"', page)
    assert sorted(links) == ["crossval/abc.json", "crossval/one.json", "tuning/9f/index.html"]


def test_champions_are_compared_on_the_pictures_that_all_have_seen(used: FolderStorage):
    page = write_page(used, NOW)
    assert "Champions on the same 3 defective and 3 good test pictures" in page
    assert "IoU 0.50 to 0.80" in page
    assert "escapes 0.67 to 0.00" in page
    assert "<script" not in page
    assert "http" not in page


def test_parts_for_a_person_have_a_chart_where_there_are_any(used: FolderStorage):
    assert "LOOK" not in write_page(used, NOW)
    key = "runs/four/counts.json"
    counts = json.loads(used.read(key))
    used.write(key, json.dumps([{**count, "verdict": "LOOK"} for count in counts]).encode())
    page = write_page(used, NOW)
    assert "LOOK 0.00 to 1.00" in page
    assert '<td class=n data-of="LOOK">6</td>' in page


def test_after_a_rollback_the_former_version_is_the_champion(used: FolderStorage):
    record = ChampionRecord(version="v2026-two", run="two", previous="v2026-four")
    used.write(champion_key("plates"), record.model_dump_json().encode())
    assert "Champion <code>v2026-two</code>" in write_page(used, NOW)


def test_a_run_that_ends_writes_the_page(used: FolderStorage):
    end_run(used, "six", Outcome(state="kept", reason="not better"))
    assert read_outcome(used, "six").state == "kept"
    assert 'class="kept">kept<' in used.read(FRONT_PAGE).decode()


def test_a_page_that_cannot_be_written_stops_nothing(used: FolderStorage, capsys: pytest.CaptureFixture[str]):
    (used.root / FRONT_PAGE).mkdir()
    (used.root / FRONT_PAGE / "in the way").touch()
    end_run(used, "six", Outcome(state="kept", reason="not better"))
    assert read_outcome(used, "six").state == "kept"
    assert "index.html was not written again" in capsys.readouterr().out


def test_damaged_files_of_a_run_are_left_out(used: FolderStorage):
    used.write(run_key("four", METRICS), b"{")
    used.write(run_key("two", COUNTS), b"7")
    used.write(run_key("one", "outcome.json"), b"{")
    page = write_page(used, NOW)
    assert "Champion <code>v2026-two</code>" in page
    assert "Champions on the same" not in page


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_in_the_dark_too(used: FolderStorage, browser: Browser, dark: bool):
    used.write(FRONT_PAGE, write_page(used, NOW).encode())
    context = browser.new_context(
        viewport={"width": 360, "height": 700}, color_scheme="dark" if dark else "light"
    )
    tab = context.new_page()
    tab.goto((used.root / FRONT_PAGE).as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    wider = (
        "[...document.querySelectorAll('td, th')].filter(c => c.getBoundingClientRect().right > 360).length"
    )
    assert tab.evaluate(wider) == 0
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 28)" if dark else "rgb(255, 255, 255)")
    context.close()
