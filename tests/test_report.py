"""The report: complete in one file, honest about what went wrong, readable on any screen."""

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from networks import draw
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from defectline.components.common.bundle import Bundle, Data
from defectline.components.common.imaging import ImagingSettings
from defectline.components.common.inspection import answer
from defectline.components.evaluate.gate import judge
from defectline.components.evaluate.metrics import count, intervals, summarize
from defectline.components.evaluate.report import Case, Report, explain, render
from defectline.components.train.history import plot_history

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _bundle(**metrics) -> Bundle:
    return Bundle(
        version="v20260102-030405-abcdef",
        name="plates",
        created="2026-01-02T03:04:05+00:00",
        imaging=ImagingSettings(image_size=224),
        threshold=0.6,
        min_area_px=20,
        metrics=metrics,
        data=Data(
            snapshot="0123456789abcdef",
            fingerprint="f" * 64,
            pairs={"train": 24, "validation": 8, "test": 8},
        ),
        training={"epochs": 60, "encoder_weights": "s3://bucket/" + "a-long-name-" * 12 + ".h5", "seed": 0},
        golden=[],
    )


def _case(id: str, truth: np.ndarray, levels: np.ndarray, seed: int = 0) -> Case:
    """A drawn picture of which the network gave `levels`."""
    image, _ = draw("OK", np.random.default_rng(seed), size=levels.shape[0])
    image[truth > 0] = 250
    where = truth.astype(bool) if truth.any() else np.ones_like(truth, bool)
    peak = float(levels[where].max()) / 1000
    return Case(id, _png(image), truth, answer(levels, 0.6, 20), peak)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _box(y: int, x: int, height: int, width: int, value: int = 1, size: int = 224) -> np.ndarray:
    array = np.zeros((size, size), np.uint16 if value > 1 else np.uint8)
    array[y : y + height, x : x + width] = value
    return array


DEFECT = _box(40, 60, 10, 30)
NONE = np.zeros((224, 224), np.uint8)
CASES = [
    _case("NG/dim<b>", DEFECT, _box(40, 60, 10, 30, 450)),
    _case("NG/small", DEFECT, _box(40, 60, 3, 5, 900)),
    _case("NG/elsewhere", DEFECT, _box(140, 160, 10, 10, 900)),
    _case("OK/one-speck", NONE, _box(100, 20, 5, 6, 733)),
    _case("OK/two-specks", NONE, _box(100, 20, 5, 6, 733) + _box(50, 120, 6, 7, 655)),
    *[_case(f"NG/found-{n}", DEFECT, _box(40, 62, 10, 30, 950), n) for n in range(3)],
    *[_case(f"OK/clean-{n}", NONE, _box(5, 5, 2, 2, 300), n) for n in range(4)],
]


def _report(folder: Path, cases: list[Case], champion: str = "", shown: int = 99) -> str:
    counts = [count(c.id, c.id[:2], c.answer, c.truth) for c in cases]
    test = summarize(counts)
    former = {**test, "iou": None} if champion else None
    rules = judge(test, former, min_iou=0.5, max_escape=0.1, max_overkill=0.1)
    history = [{"epoch": n, "loss": 1 / n, "val_loss": 1 / n, "iou": 0.1, "val_iou": 0.1} for n in (1, 2)]
    plot_history(history, folder / "history.png")
    return render(
        Report(
            run="run-1",
            bundle=_bundle(test=test, validation=test),
            champion=champion,
            champion_metrics=former,
            rules=rules,
            counts=counts,
            intervals=intervals(counts),
            cases=cases[:shown],
            history=(folder / "history.png").read_bytes(),
        )
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return _report(tmp_path_factory.mktemp("report"), CASES, champion="v20250101-000000-000000")


@pytest.mark.parametrize(
    ("id", "wrong", "headline", "why"),
    [
        (
            "NG/dim<b>",
            True,
            "Escape",
            "The defect of 300 px reached 0.450 at most, below the threshold 0.600.",
        ),
        (
            "NG/small",
            True,
            "Escape",
            "reached 0.900, but no region of 20 px or more lies above the threshold",
        ),
        ("NG/elsewhere", True, "Right verdict for the wrong place", "Nothing of the defect was found."),
        ("OK/one-speck", True, "Overkill", "1 region above the threshold 0.600; it has 30 px at x 20, y 100"),
        ("OK/two-specks", True, "Overkill", "2 regions above the threshold 0.600; the largest has 42 px"),
        ("NG/found-0", False, "Defective, called NG", "280 of 300 px found, 20 px too many: IoU 0.88."),
        ("OK/clean-0", False, "Good, called OK", "threshold 0.600."),
    ],
)
def test_every_answer_is_explained(id, wrong, headline, why):
    case = next(c for c in CASES if c.id == id)
    is_wrong, said, because = explain(case, _bundle())
    assert is_wrong == wrong
    assert said.startswith(headline)
    assert why in because


def test_the_page_needs_nothing_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "<link" not in page
    sources = re.findall(r"<img[^>]*\ssrc=\"([^\"]*)\"", page)
    assert len(sources) == page.count("<img") == 3 * len(CASES) + 2
    assert all(re.match(r"data:image/(png|webp);base64,", source) for source in sources)
    assert not re.search(r"url\(|@import", page)


def test_the_page_names_what_went_wrong_and_why(page):
    assert "Missed test pictures (5)" in page
    assert "2 of 6 defective parts called OK (escape), 2 of 6 good parts called NG (overkill)." in page
    assert page.index("NG/small") < page.index("NG/found-0")
    for case in CASES[1:5]:
        assert case.id in page
    assert page.count("Escape: defective, called OK") == 2
    assert page.count("Overkill: good, called NG") == 2
    assert "reached 0.450 at most, below the threshold 0.600" in page


def test_missed_pictures_that_are_not_shown_are_counted(tmp_path):
    page = _report(tmp_path, CASES, shown=3)
    assert "Missed test pictures (5)" in page
    assert "The first 3 are shown." in page


def test_names_are_text(page):
    assert "NG/dim<b>" not in page
    assert "NG/dim&lt;b&gt;" in page


def test_the_verdict_of_the_gate_is_on_top(page):
    text = re.sub(r"<[^>]*>", " ", page)
    assert "plates: refused by the gate" in text
    assert "The champion v20250101-000000-000000 stays." in text
    assert "Only 6 defective test pictures: one more or less moves a rate by 17 points." in text


def test_a_perfect_split_of_one_label(tmp_path):
    page = _report(tmp_path, [c for c in CASES if c.id.startswith("OK/clean")])
    assert "None: every test picture has the right verdict." in page
    # Without a defective picture there is nothing to say about escapes.
    assert "Only 0 defective" not in page


def test_outlines_of_thin_defects_survive_shrinking(tmp_path):
    """A picture of 2048 px is shown at 672: a scratch of one pixel must still be seen."""
    truth = np.zeros((2048, 2048), np.uint8)
    truth[1001, 300:1500] = 1
    case = _case("NG/thin", truth, truth.astype(np.uint16) * 300)
    page = _report(tmp_path, [case])
    found = re.search(r'src="data:image/webp;base64,([^"]*)" alt="true defect', page)
    assert found is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
    assert shown.shape == (672, 672, 3)
    green = (shown == (46, 204, 113)).all(axis=2)
    assert green.any(axis=0).sum() > 350


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_the_screen(browser, page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    images = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(images) == 3 * len(CASES) + 2
    assert all(complete and natural > 0 and shown >= 90 for complete, natural, shown in images)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    tab.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)
    tab.close()
