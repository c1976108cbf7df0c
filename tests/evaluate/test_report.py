"""The report: complete in one file, honest about what went wrong, readable on any screen."""

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from networks import draw
from numpy.typing import NDArray
from pictures import accepted
from PIL import Image

from defectline.components.common.bundle import Bundle, Data
from defectline.components.common.imaging import ImagingSettings
from defectline.components.common.inspection import Grades, answer
from defectline.components.common.sample import generate_samples
from defectline.components.evaluate.champion import ChampionResult
from defectline.components.evaluate.curves import at_thresholds
from defectline.components.evaluate.examples import (
    SHOWN,
    Example,
    ExampleCollector,
    explain,
    outline_path,
    render_example,
)
from defectline.components.evaluate.gate import judge
from defectline.components.evaluate.metrics import count, intervals, summarize
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.report import Report, render, summarize_run
from defectline.components.evaluate.scoring import Evaluated, Scored
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.train.history import plot_history

CHAMPION = "v20250101-000000-000000"
THRESHOLD, AREA = 0.6, 20

Picture = tuple[str, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]
"""Id, image (H, W), truth (H, W), levels (H, W)."""


def _bundle(grades: Grades | None = None, note: str = "", **metrics) -> Bundle:
    return Bundle(
        version="v20260102-030405-abcdef",
        name="plates",
        created="2026-01-02T03:04:05+00:00",
        imaging=ImagingSettings(image_size=224),
        threshold=THRESHOLD,
        min_area_px=AREA,
        calibration_note=note,
        grades=grades,
        metrics=metrics,
        data=Data(
            snapshot="0123456789abcdef",
            fingerprint="f" * 64,
            pairs={"train": 24, "validation": 8, "test": 8},
        ),
        training={"epochs": 60, "encoder_weights": "s3://bucket/" + "a-long-name-" * 12 + ".h5", "seed": 0},
        golden=[],
    )


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _evaluated(picture: Picture) -> Evaluated:
    id, image, truth, levels = picture
    given = answer(levels, THRESHOLD, AREA)
    pair = accepted(0, id[:2])._replace(id=id, pixel_sha256=id)
    return Evaluated(pair, _png(image), truth, levels, given, count(id, id[:2], given, truth))


def _collected(picture: Picture) -> Example:
    collector = ExampleCollector()
    collector.add(_evaluated(picture))
    (example,) = collector.examples
    return example


def _scored(pictures: Sequence[Picture], collector: ExampleCollector) -> Scored:
    scored = Scored([], Pixels())
    for picture in pictures:
        evaluated = _evaluated(picture)
        scored.counts.append(evaluated.counted)
        scored.pixels.see(evaluated.levels, evaluated.truth)
        collector.add(evaluated)
    return scored


def _report(
    folder: Path,
    pictures: Sequence[Picture],
    champion: Sequence[Picture] | None = None,
    note: str = "there is no champion yet",
    calibration: str = "",
    **settings,
) -> Report:
    """A report on what the challenger, and perhaps a champion, answered to the pictures."""
    collector, chosen = ExampleCollector(), EvaluateSettings(**settings)
    scored = _scored(pictures, collector)
    champion_result = (
        ChampionResult(_scored(champion, ExampleCollector()), "") if champion else ChampionResult(None, note)
    )
    test = summarize(*scored)
    history = [{"epoch": n, "loss": 1 / n, "val_loss": 1 / n, "iou": 0.1, "val_iou": 0.1} for n in (1, 2)]
    plot_history(history, folder / "history.png")
    return Report(
        run="run-1",
        bundle=_bundle(chosen.grades, calibration, test=test, validation=test),
        settings=chosen,
        champion=CHAMPION if champion else "",
        champion_result=champion_result,
        rules=judge(
            scored.counts,
            champion_result.scored and champion_result.scored.counts,
            chosen,
            champion_result.note,
        ),
        scored=scored,
        intervals=intervals(scored.counts),
        kinds=collector.kinds,
        rejected=3,
        history=(folder / "history.png").read_bytes(),
    )


def _box(y: int, x: int, height: int, width: int, value: int = 1, size: int = 224) -> np.ndarray:
    array = np.zeros((size, size), np.uint16 if value > 1 else np.uint8)
    array[y : y + height, x : x + width] = value
    return array


def _picture(id: str, truth: np.ndarray, levels: np.ndarray, seed: int = 0) -> Picture:
    """A drawn picture of which the network gave `levels`."""
    image, _ = draw("OK", np.random.default_rng(seed), size=levels.shape[0])
    image[truth > 0] = 250
    return id, image, truth, levels


DEFECT = _box(40, 60, 10, 30)
NONE = np.zeros((224, 224), np.uint8)
PICTURES = [
    _picture("NG/small", DEFECT, _box(40, 60, 3, 5, 900)),
    _picture("NG/dim<b>", DEFECT, _box(40, 60, 10, 30, 450)),
    _picture("NG/elsewhere", DEFECT, _box(140, 160, 10, 10, 900)),
    _picture("OK/two-specks", NONE, _box(100, 20, 5, 6, 655) + _box(50, 120, 6, 7, 655)),
    _picture("OK/one-speck", NONE, _box(100, 20, 5, 6, 733)),
    *[_picture(f"NG/found-{n}", DEFECT, _box(40, 62, 10, 30, 950), n) for n in range(3)],
    *[_picture(f"OK/clean-{n}", NONE, _box(5, 5, 2, 2, 300), n) for n in range(4)],
]
BETTER = [(id, image, truth, truth.astype(np.uint16) * 900) for id, image, truth, _ in PICTURES]
"""What a champion without a fault would say."""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return render(_report(tmp_path_factory.mktemp("report"), PICTURES, BETTER))


def _text(page: str) -> str:
    """What there is to read."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]).split())


@pytest.mark.parametrize(
    ("id", "headline", "why"),
    [
        ("NG/dim<b>", "Escape", "The defect of 300 px reached 0.450 at most, below the threshold 0.600."),
        ("NG/small", "Escape", "reached 0.900, but no region of 20 px or more lies above the threshold"),
        ("NG/elsewhere", "Right verdict for the wrong place", "Nothing of the defect was found."),
        ("OK/one-speck", "Overkill", "1 region above the threshold 0.600; it has 30 px at x 20, y 100"),
        ("OK/two-specks", "Overkill", "2 regions above the threshold 0.600; the largest has 42 px"),
        ("NG/found-0", "Defective, called NG", "280 of 300 px found, 20 px too many: IoU 0.88."),
        ("OK/clean-0", "Good, called OK", "threshold 0.600."),
    ],
)
def test_every_answer_is_explained(id, headline, why):
    example = _collected(next(p for p in PICTURES if p[0] == id))
    said, because = explain(example, _bundle())
    assert said.startswith(headline)
    assert why in because
    assert "Grade" not in because
    assert re.search(r"Grade (A|B|reject)\.$", explain(example, _bundle(Grades(a_px=10, b_px=50)))[1])


def test_the_collector_keeps_the_worst_of_what_went_wrong_and_any_of_the_rest():
    collector = ExampleCollector()
    for level in (300, 100, 200):
        collector.add(_evaluated(_picture(f"NG/{level}", DEFECT, _box(40, 60, 10, 30, level))))
        collector.add(_evaluated(_picture(f"OK/{level}", NONE, _box(5, 5, 9, 9, 600 + level))))
    for number in range(20):
        collector.add(_evaluated(_picture(f"OK/clean-{number:02}", NONE, _box(5, 5, 2, 2, 300))))
    assert [c.pair.id for c in collector.kinds["escape"]] == ["NG/100", "NG/200", "NG/300"]
    assert [c.pair.id for c in collector.kinds["overkill"]] == ["OK/300", "OK/200", "OK/100"]
    assert len(collector.kinds["OK"]) == SHOWN["OK"]
    assert collector.kinds["mislocalised"] == collector.kinds["NG"] == []


# The page


def test_the_page_needs_nothing_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "<link" not in page
    sources = re.findall(r"<ima?ge?[^>]*\s(?:src|href)=\"([^\"]*)\"", page)
    assert len(sources) == len(PICTURES) + 5
    assert all(re.match(r"data:image/(png|webp);base64,", source) for source in sources)
    assert not re.search(r"url\(|@import", page)
    # Each picture is in the page once; the outlines refer to it.
    assert set(re.findall(r"<use href=\"(.)", page)) == {"#"}


def test_verdict_rules_comparison_and_faults_come_first_and_in_this_order(page):
    titles = re.findall(r"<h2>([^<]*)</h2>", page)
    assert titles == [
        "Rules of the gate",
        "This version and the champion",
        "Escapes: defective parts called OK (2)",
        "Overkills: good parts called NG (2)",
        "Right verdict for the wrong place (1)",
        "Some of the others (7)",
        "Curves",
        "Other thresholds",
        "Defects by size",
        "Data and settings",
    ]
    text = _text(page)
    assert "plates: refused by the gate" in text
    failed = "min_iou, max_escape, max_overkill, champion_iou, champion_escape, champion_overkill"
    assert (
        f"This version failed 6 of 6 rules on 6 defective and 6 good test pictures ({failed}), so "
        f"the champion {CHAMPION} stays."
    ) in text
    assert "2 of 6 defective parts called OK (escape), 2 of 6 good parts called NG (overkill)." in text
    assert "Only 6 defective test pictures: one more or less moves a rate by 17 points." in text
    assert page.index("NG/dim") < page.index("OK/one-speck") < page.index("NG/elsewhere</code>")


def test_the_champion_stands_beside_and_what_changed_is_named(page):
    text = _text(page)
    assert "Both on the same 6 defective and 6 good test pictures, each at its own threshold." in text
    assert "New escapes: 2 ( NG/small, NG/dim&lt;b&gt; )." in text
    assert "Mended escapes: 0." in text
    assert "New overkills: 2 ( OK/two-specks, OK/one-speck )." in text
    row = re.search(r"<th scope=\"row\">escape</th>(.*?)</tr>", page)
    assert row is not None
    assert re.findall(r">([0-9.]+)<", row[1]) == ["0.333", "0.000", "0.333"]


def test_a_mask_without_a_defect_is_named_as_such(page):
    assert page.count("<figcaption>Truth: no defect</figcaption>") == 6
    assert page.count("<figcaption>Found: nothing</figcaption>") == 2 + 4


def test_missed_pictures_that_are_not_shown_are_counted(tmp_path):
    many = [_picture(f"NG/{n:02}", DEFECT, _box(40, 60, 10, 30, 100)) for n in range(25)]
    page = render(_report(tmp_path, many))
    assert "Escapes: defective parts called OK (25)" in page
    assert "The worst 20 are shown." in page


def test_names_are_text(page):
    assert "NG/dim<b>" not in page
    assert "NG/dim&lt;b&gt;" in page


def test_a_perfect_split_of_one_label(tmp_path):
    page = render(_report(tmp_path, [p for p in PICTURES if p[0].startswith("OK/clean")]))
    assert page.count("<p>None.</p>") == 3
    # Without a defective picture there is nothing to say about escapes, and no ROC.
    assert "Only 0 defective" not in page
    assert "ROC" not in _text(page)
    assert "Nothing to compare: there is no champion yet." in page


def test_a_note_about_the_calibration_is_on_top(tmp_path):
    page = render(_report(tmp_path, PICTURES, calibration="There were only good pictures."))
    assert page.index("There were only good pictures.") < page.index("Rules of the gate")


def test_grades_have_a_table_where_there_are_limits(tmp_path, page):
    assert "<h2>Grades</h2>" not in page
    graded = _text(render(_report(tmp_path, PICTURES, grade_a_px=30, grade_b_px=200)))
    # Found areas: 300 px three times, 100 px, and two called OK; 30 px and 72 px of good parts.
    assert "NG 2 of 6 (33 %) 1 of 6 (17 %) 3 of 6 (50 %)" in graded
    assert "OK 5 of 6 (83 %) 1 of 6 (17 %) 0 of 6 (0 %)" in graded


def test_other_thresholds_by_hand():
    counts = _scored(PICTURES, ExampleCollector()).counts
    rows = {row.threshold: row for row in at_thresholds(counts, THRESHOLD, 3.0)}
    # NG scores 0 (too small), 0.45, 0.9, 0.95 three times; OK scores 0.655, 0.733 and 0 four times.
    assert [row[:4] for row in (rows[0.1], rows[0.6], rows[0.7], rows[0.95])] == [
        (0.1, 1, 2, 5.0),
        (0.6, 2, 2, 8.0),
        (0.7, 2, 1, 7.0),
        (0.95, 3, 0, 9.0),
    ]
    assert [threshold for threshold, row in rows.items() if row.chosen] == [THRESHOLD]
    assert 0.123 in {row.threshold for row in at_thresholds(counts, 0.123, 3.0)}


def test_regions_are_listed_by_size(page):
    assert "large 256 px and more 6 0.500" in _text(page)
    assert "small 1 to 63 px 0 –" in _text(page)
    assert "medium 64 to 255 px 0 –" in _text(page)


class _Structure(HTMLParser):
    """Headings, pictures without words, table cells without a scope."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.pictures: list[str] = []
        self.tables = self.captions = self.loose_headers = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.pictures.append(given.get("alt") or "")
        if tag == "svg":
            assert given["role"] == "img"
            self.pictures.append(given.get("aria-label") or "")
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.loose_headers += tag == "th" and "scope" not in given


def test_the_page_can_be_listened_to(page):
    found = _Structure()
    found.feed(page)
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(found.headings, found.headings[1:], strict=False))
    assert len(found.pictures) == 3 * len(PICTURES) + 5
    assert all(len(words) > 20 for words in found.pictures)
    assert "NG/elsewhere with one true region of 300 px, 30 wide and 10 high, at x 60, y 40" in found.pictures
    assert (
        "NG/elsewhere with one found region of 100 px, 10 wide and 10 high, at x 160, y 140" in found.pictures
    )
    assert "OK/clean-0 with no true defect" in found.pictures
    assert any("6 good pictures score 0.000 to 0.733" in words for words in found.pictures)
    assert found.tables == found.captions == 6
    assert found.loose_headers == 0
    assert '<html lang="en">' in page


def test_the_summary_fits_a_screen_and_says_what_counts(tmp_path):
    summary = summarize_run(_report(tmp_path, PICTURES, BETTER))
    assert summary.startswith("# plates: refused\n\nThis version failed 6 of 6 rules")
    assert "| max_escape | **failed** | 0.333 | ≤ 0.100 | too many defective parts pass as good |" in summary
    assert "| escape | 0.333 | 0.097 to 0.700 | 0.000 | defective parts called OK |" in summary
    assert len(summary.splitlines()) < 40
    assert "{" not in summary


# Drawing


def _bounds(path: str) -> tuple[float, float, float, float]:
    xs, ys = np.array([pair.split() for pair in re.findall(r"[\d.]+ [\d.]+", path)], float).T
    return xs.min(), ys.min(), xs.max(), ys.max()


def test_an_outline_runs_around_each_region():
    mask = _box(40, 60, 10, 30) | _box(100, 20, 1, 1)
    assert outline_path(mask, 224, 224).count("M") == 2
    # Pixels 60 to 89 and 40 to 49: the line runs through the middle of those beside them.
    assert _bounds(outline_path(_box(40, 60, 10, 30), 224, 224)) == (59.5, 39.5, 90.5, 50.5)
    assert outline_path(NONE, 224, 224) == ""


def test_large_pictures_are_shrunken_and_thin_defects_survive_it():
    """A scratch of one pixel in 2048 must still be outlined at 448."""
    truth = np.zeros((2048, 2048), np.uint8)
    truth[1001, 300:1500] = 1
    shown = render_example(_collected(_picture("NG/thin", truth, truth.astype(np.uint16) * 300)), _bundle())
    assert (shown.width, shown.height) == (448, 448)
    picture = Image.open(io.BytesIO(base64.b64decode(shown.picture.partition(",")[2])))
    assert picture.size == (448, 448)
    left, top, right, bottom = _bounds(shown.truth)
    assert left == pytest.approx(300 / 2048 * 448, abs=3)
    assert right == pytest.approx(1500 / 2048 * 448, abs=3)
    assert top < 1001 / 2048 * 448 < bottom


def _as_of_a_weak_network(folder: Path, pairs: int) -> list[Picture]:
    """Light guide plates, of which a network finds a part and sees defects where there are none."""
    generate_samples(folder / "samples", pairs)
    rng, pictures = np.random.default_rng(0), []
    for label in ("OK", "NG"):
        for path in sorted((folder / "samples" / label).iterdir()):
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            truth = cv2.imread(
                str(folder / "samples" / f"{label}_MSK" / path.name.replace("_Image", "_Mask")),
                cv2.IMREAD_GRAYSCALE,
            )
            truth = (truth > 0).astype(np.uint8)
            dust = cv2.GaussianBlur(rng.normal(size=image.shape), (0, 0), 4) * 4
            seen = np.clip(rng.uniform(0.2, 1) * cv2.GaussianBlur(truth.astype(float), (0, 0), 2), 0, 1)
            levels = np.clip((seen + np.clip(dust - rng.uniform(0.2, 1.2), 0, 1)) * 1000, 0, 1000)
            pictures.append((f"{label}/{path.stem}", image, truth, levels.astype(np.uint16)))
    return pictures


def test_the_page_of_200_pictures_stays_below_3_mb(tmp_path):
    pictures = _as_of_a_weak_network(tmp_path, 200)
    page = render(_report(tmp_path, pictures, pictures[::-1]))
    shown = page.count("<article")
    assert shown >= SHOWN["escape"] + SHOWN["overkill"]
    assert len(page.encode()) < 3_000_000


# In a browser


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_the_screen(browser, page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    images = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(images) == 5
    assert all(complete and natural > 0 and shown >= 300 for complete, natural, shown in images)
    drawn = tab.evaluate("[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)")
    assert len(drawn) == 3 * len(PICTURES)
    assert min(drawn) >= 80
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    tab.close()


def test_outlines_are_drawn_over_the_picture_in_their_colours(browser, page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(file.as_uri())
    panels = tab.locator("article", has_text="NG/elsewhere").locator("svg")
    shots = [np.asarray(Image.open(io.BytesIO(panels.nth(n).screenshot())).convert("RGB")) for n in range(3)]
    green, orange = (46, 204, 113), (255, 159, 67)
    near = [
        [int((abs(shot.astype(int) - colour).sum(axis=2) < 40).sum()) for colour in (green, orange)]
        for shot in shots
    ]
    assert near[0] == [0, 0]
    assert near[1][0] > 100
    assert near[1][1] == 0
    assert near[2][1] > 20
    assert near[2][0] == 0
    # The picture itself is under each of them.
    assert all(np.median(shot) > 80 for shot in shots)
    tab.close()
