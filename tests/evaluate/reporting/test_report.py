"""The report: complete in one file, honest about what went wrong, readable on any screen."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from reports import BETTER, CHAMPION, PICTURES, Picture, make_report

from defectline.components.common.images.sample import generate_samples
from defectline.components.evaluate.reporting.examples import SHOWN
from defectline.components.evaluate.reporting.report import render, summarize_run, waits_for
from defectline.components.evaluate.settings import EvaluateSettings


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return render(make_report(tmp_path_factory.mktemp("report"), PICTURES, BETTER))


def _text(page: str) -> str:
    """What there is to read."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]).split())


def test_the_page_needs_nothing_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("<script>") == page.count("<script") == 1
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
        "The others (7)",
        "Curves",
        "Other thresholds",
        "Defects by size",
        "Data and settings",
    ]
    text = _text(page)
    assert "plates: refused by the gate" in text
    failed = "min_iou, max_escape, max_overkill, champion_iou, champion_cost"
    assert (
        f"This version failed 5 of 5 rules on 6 defective and 6 good test pictures ({failed}), so "
        f"the champion {CHAMPION} stays."
    ) in text
    assert "2 of 6 defective parts called OK (escape), 2 of 6 good parts called NG (overkill)." in text
    assert "Only 6 defective test pictures: one more or less moves a rate by 17 points." in text
    assert page.index("NG/dim") < page.index("OK/one-speck") < page.index("NG/elsewhere</code>")


def test_the_champion_stands_beside_and_what_changed_is_named(page):
    text = _text(page)
    assert "Both on the same 6 defective and 6 good test pictures, each at its own threshold." in text
    assert "New escapes: 2 ( NG/small, NG/dim&lt;b&gt; )." in text
    assert "Fixed escapes: 0." in text
    assert "New overkills: 2 ( OK/two-specks, OK/one-speck )." in text
    row = re.search(r"<th scope=\"row\">escape<.*?</th>(.*?)</tr>", page)
    assert row is not None
    assert re.findall(r">([0-9.]+)<", row[1]) == ["0.333", "0.000", "0.333"]


def test_a_mask_without_a_defect_is_named_as_such(page):
    assert page.count("<figcaption>Truth: no defect</figcaption>") == 6
    assert page.count("<figcaption>Found: nothing</figcaption>") == 2 + 4


def test_names_are_text(page):
    assert "NG/dim<b>" not in page
    assert "NG/dim&lt;b&gt;" in page


def test_a_perfect_split_of_one_label(tmp_path):
    page = render(make_report(tmp_path, [p for p in PICTURES if p[0].startswith("OK/clean")]))
    assert page.count("<p>None.</p>") == 3
    # Without a defective picture there is nothing to say about escapes, and no ROC.
    assert "Only 0 defective" not in page
    assert "ROC" not in _text(page)
    assert "Nothing to compare: there was no champion." in page


def test_a_note_about_the_calibration_is_on_top(tmp_path):
    page = render(make_report(tmp_path, PICTURES, calibration="There were only good pictures."))
    assert page.index("There were only good pictures.") < page.index("Rules of the gate")


def test_who_must_approve_it_and_by_which_command(tmp_path):
    relaxed = {"min_iou": 0, "max_escape": 1, "max_overkill": 1}
    report = make_report(tmp_path, PICTURES[:4], approval="two", **relaxed)
    said = waits_for(report)
    assert said.startswith("It serves once two people approved it: defectline approve v")
    assert said.endswith("--store s3://plates/store --as YOU --reason WHY")
    assert waits_for(report._replace(signed=True)) == f"{said} --key YOUR.key"
    assert said in summarize_run(report)
    assert said in render(report)
    assert waits_for(report._replace(settings=EvaluateSettings(**relaxed))) == ""


def test_grades_have_a_table_where_there_are_limits(tmp_path, page):
    assert "<h2>Grades</h2>" not in page
    graded = _text(render(make_report(tmp_path, PICTURES, grade_a_px=30, grade_b_px=200)))
    # Found areas: 300 px three times, 100 px, and two called OK; 30 px and 72 px of good parts.
    assert "NG 2 of 6 (33 %) 1 of 6 (17 %) 3 of 6 (50 %)" in graded
    assert "OK 5 of 6 (83 %) 1 of 6 (17 %) 0 of 6 (0 %)" in graded


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
    summary = summarize_run(make_report(tmp_path, PICTURES, BETTER))
    assert summary.startswith("# plates: refused\n\nThis version failed 5 of 5 rules")
    assert "| max_escape | **failed** | 0.333 | ≤ 0.100 | too many defective parts pass as good |" in summary
    assert "| escape | 0.333 | 0.097 to 0.700 | 0.000 | defective parts called OK |" in summary
    assert len(summary.splitlines()) < 40
    assert "{" not in summary


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
            score_map = np.clip((seen + np.clip(dust - rng.uniform(0.2, 1.2), 0, 1)) * 1000, 0, 1000)
            pictures.append((f"{label}/{path.stem}", image, truth, score_map.astype(np.uint16)))
    return pictures


def test_the_page_of_200_pictures_stays_below_3_mb(tmp_path):
    pictures = _as_of_a_weak_network(tmp_path, 200)
    page = render(make_report(tmp_path, pictures, pictures[::-1]))
    shown = page.count("<article")
    assert shown >= SHOWN["escape"] + SHOWN["overkill"]
    assert len(page.encode()) < 3_000_000


def test_the_page_is_dark_in_the_dark(browser, page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(color_scheme="dark")
    tab.goto(file.as_uri())
    # Whatever is written is much lighter than what it is written on.
    parts = "['body', '.verdict', 'caption', 'figcaption', 'tbody th', '.no', '#slide']"
    colours = tab.evaluate(f"{parts}.map(p => getComputedStyle(document.querySelector(p)).color)")
    papers = tab.evaluate(
        "['body', '.verdict'].map(p => getComputedStyle(document.querySelector(p)).backgroundColor)"
    )
    assert min(sum(map(int, re.findall(r"\d+", colour))) for colour in colours) > 400
    assert max(sum(map(int, re.findall(r"\d+", paper))) for paper in papers) < 120
    tab.close()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_the_screen(browser, page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('.stack td, .stack th, .lean td, .lean th')].filter(
        cell => cell.getBoundingClientRect().right > innerWidth).map(cell => cell.textContent)"""
    assert tab.evaluate(cut) == []
    images = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(images) == 5
    assert all(complete and natural > 0 and shown >= 300 for complete, natural, shown in images)
    drawn = tab.evaluate(
        "[...document.querySelectorAll('.pictures svg')].map(s => s.getBoundingClientRect().width)"
    )
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


def test_without_a_defective_picture_nothing_is_said_of_escapes(tmp_path):
    good = [picture for picture in PICTURES if picture[0].startswith("OK/")]
    text = _text(render(make_report(tmp_path, good, None)))
    assert "Without a defective test picture nobody knows how many defects escape." in text
    assert "0 of 0" not in text


def test_another_threshold_is_tried_with_a_slider(browser, page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    said = tab.locator("#then")
    assert said.text_content() == "2 of 6 defective parts escape, 2 of 6 good parts are rejected: cost 8.0"
    # As the table of thresholds says.
    for level, told in (("0.4", "1 of 6"), ("0.92", "3 of 6")):
        tab.locator("#level").fill(level)
        assert said.text_content().startswith(f"{told} defective parts escape")
        assert tab.locator("#at").text_content() == f"{float(level):.3f}"
    assert said.text_content().endswith("0 of 6 good parts are rejected: cost 9.0")
    tab.close()


@pytest.mark.parametrize("width", [1280, 360])
def test_a_picture_is_large_on_a_click_and_larger_on_another(browser, page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(file.as_uri())
    tab.locator("article", has_text="NG/elsewhere").locator("svg").nth(1).click()
    large = tab.locator("#large svg")
    assert large.bounding_box()["width"] > 0.9 * width
    assert tab.locator("#caption").text_content().startswith("NG/elsewhere, Truth (solid green)")
    large.click(position={"x": 100, "y": 100})
    assert large.bounding_box()["width"] > 2.5 * width
    large.click()
    assert large.bounding_box()["width"] < 1.1 * width
    tab.locator("#bright").fill("3")
    assert large.locator("use").first.evaluate("use => getComputedStyle(use).filter") == "brightness(3)"
    tab.get_by_role("button", name="Next").click()
    assert tab.locator("#caption").text_content().startswith("NG/elsewhere, Found")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#caption").text_content().startswith("NG/elsewhere, Picture")
    assert large.locator("image").evaluate("image => getComputedStyle(image).filter") == "brightness(3)"
    tab.keyboard.press("Escape")
    assert not large.is_visible()
    tab.locator(".pictures svg").first.press("Enter")
    assert large.is_visible()
    tab.get_by_role("button", name="Close").click()
    assert not large.is_visible()
    tab.close()


def test_without_scripts_the_table_says_it(browser, page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert not tab.locator("#slide").is_visible()
    assert tab.get_by_text("What other thresholds would have done").is_visible()
    context.close()
