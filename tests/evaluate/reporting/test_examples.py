"""Which test pictures the report shows, and what is said of each."""

import base64
import io
import re

import numpy as np
import pytest
from networks import judge_model
from PIL import Image
from reports import (
    DEFECT,
    NONE,
    PICTURES,
    box,
    collect,
    evaluate_picture,
    make_picture,
    make_report,
    report_bundle,
)

from defectline.components.common.classes import IGNORE
from defectline.components.common.images.roi import ignore_outside
from defectline.components.common.inference.inspection import Grades
from defectline.components.evaluate.reporting import examples
from defectline.components.evaluate.reporting.examples import (
    LEAST_SHOWN,
    SHOWN,
    ExampleCollector,
    choose_shown,
    contrast,
    explain,
    outline_path,
    outside_path,
    render_example,
)
from defectline.components.evaluate.reporting.report import render


@pytest.mark.parametrize(
    ("id", "headline", "why"),
    [
        ("NG/dim<b>", "Escape", "Score 0.450, threshold 0.600. The defect of 300 px reached 0.450 at most."),
        ("NG/small", "Escape", "reached 0.900, but no region of 20 px or more does."),
        ("NG/elsewhere", "Right verdict for the wrong place", "Nothing of the defect was found."),
        ("OK/one-speck", "Overkill", "threshold 0.600. 1 region; it has 30 px at x 20, y 100"),
        ("OK/two-specks", "Overkill", "threshold 0.600. 2 regions; the largest has 42 px"),
        ("NG/found-0", "Defective, called NG", "280 of 300 px found, 20 px too many: IoU 0.88."),
        ("OK/clean-0", "Good, called OK", "threshold 0.600."),
    ],
)
def test_every_answer_is_explained(id, headline, why):
    example = collect(next(p for p in PICTURES if p[0] == id))
    said, because = explain(example, report_bundle())
    assert said.startswith(headline)
    assert why in because
    assert "Grade" not in because
    assert re.search(r"Grade (A|B|reject)\.$", explain(example, report_bundle(Grades(a_px=10, b_px=50)))[1])


def test_a_missed_region_is_shown_though_the_verdict_is_right(tmp_path):
    both = DEFECT | box(150, 30, 8, 8)
    picture = make_picture("NG/two", both, box(40, 60, 10, 30, 900))
    said, because = explain(collect(picture), report_bundle())
    assert said == "Right verdict, but 1 defect was missed"
    assert "threshold 0.600. 1 of 2 regions were found." in because
    page = render(make_report(tmp_path, [*PICTURES, picture]))
    assert "Right verdict, but a defect was missed (1)" in page
    assert "Right verdict, but a defect" not in render(make_report(tmp_path, PICTURES))


def test_the_collector_keeps_the_worst_of_what_went_wrong_and_any_of_the_rest():
    collector = ExampleCollector()
    for level in (300, 100, 200):
        collector.add(evaluate_picture(make_picture(f"NG/{level}", DEFECT, box(40, 60, 10, 30, level))))
        collector.add(evaluate_picture(make_picture(f"OK/{level}", NONE, box(5, 5, 9, 9, 600 + level))))
    for number in range(SHOWN["OK"] + 5):
        collector.add(evaluate_picture(make_picture(f"OK/clean-{number:02}", NONE, box(5, 5, 2, 2, 300))))
    assert [c.pair.id for c in collector.kinds["escape"]] == ["NG/100", "NG/200", "NG/300"]
    assert [c.pair.id for c in collector.kinds["overkill"]] == ["OK/300", "OK/200", "OK/100"]
    assert len(collector.kinds["OK"]) == SHOWN["OK"]
    assert collector.kinds["mislocalised"] == collector.kinds["NG"] == []


def test_missed_pictures_that_are_not_shown_are_counted(tmp_path):
    many = [make_picture(f"NG/{n:02}", DEFECT, box(40, 60, 10, 30, 100)) for n in range(25)]
    page = render(make_report(tmp_path, many))
    assert "Escapes: defective parts called OK (25)" in page
    assert "The worst 20 are shown." in page


def _bounds(path: str) -> tuple[float, float, float, float]:
    xs, ys = np.array([pair.split() for pair in re.findall(r"-?[\d.]+ -?[\d.]+", path)], float).T
    return xs.min(), ys.min(), xs.max(), ys.max()


def test_an_outline_runs_around_each_region():
    mask = box(40, 60, 10, 30) | box(100, 20, 1, 1)
    assert outline_path(mask, 224, 224).count("M") == 2
    # Pixels 60 to 89 and 40 to 49: the line runs through the middle of those beside them.
    assert _bounds(outline_path(box(40, 60, 10, 30), 224, 224)) == (59.5, 39.5, 90.5, 50.5)
    assert outline_path(NONE, 224, 224) == ""


def test_what_lies_outside_of_the_region_is_drawn_and_no_part_of_the_truth():
    roi = box(20, 0, 150, 100)
    roi[60:70, 30:40] = 0
    path = outside_path(roi, 224, 224)
    assert path.startswith("M-9 -9H233V233H-9Z")
    # Around the region and around its hole; its left side is that of the picture.
    assert path.count("M") == 3
    assert _bounds(path.split("Z")[1]) == (-9, 20.5, 99.5, 169.5)
    example = collect(
        make_picture("NG/two", box(40, 60, 10, 20) | box(200, 10, 5, 5), DEFECT * np.uint16(900))
    )
    shown = render_example(example, report_bundle(), roi)
    assert shown.truth == outline_path(box(40, 60, 10, 20), 224, 224)
    assert shown.truth_says.endswith("; what lies outside of the region of interest is dimmed")
    assert shown.outside == path
    assert render_example(example, report_bundle()).outside == ""


@pytest.mark.parametrize(("inside", "ignored"), [(False, False), (True, True)])
def test_what_does_not_count_is_outlined_within_the_region_alone(inside: bool, ignored: bool):
    roi = box(20, 20, 150, 150)
    truth = ignore_outside(DEFECT, roi)
    if inside:
        truth[100:110, 100:110] = IGNORE
    shown = render_example(
        collect(make_picture("NG/x", truth, DEFECT * np.uint16(900))), report_bundle(), roi
    )
    assert bool(shown.ignored) is ignored
    assert _bounds(shown.truth) == (59.5, 39.5, 90.5, 50.5)


def test_a_missed_defect_is_told_to_be_faint_beside_those_that_were_found(tmp_path):
    dim = make_picture("NG/dim", DEFECT, box(40, 60, 10, 30, 100))
    id, image, truth, scores = dim
    faint = image.copy()
    # As its surroundings, but for 6 grey levels.
    faint[truth > 0] = round(float(image[30:60, 50:100][truth[30:60, 50:100] == 0].mean())) + 6
    found = [p for p in PICTURES if p[0].startswith("NG/found")]
    page = render(make_report(tmp_path, [*found, (id, faint, truth, scores)]))
    told = re.search(
        r"differs from what is around it by (\d+) of 255 grey levels; of defects that were found, "
        r"half differ by (\d+) or more",
        page,
    )
    assert told
    assert abs(int(told[1]) - 6) <= 3
    assert int(told[2]) > 50
    # With none found there is nothing to compare with.
    assert "grey levels" not in render(make_report(tmp_path, [(id, faint, truth, scores)]))


def test_contrast_is_that_of_the_ring_around(tmp_path):
    image = np.full((60, 60, 3), 100, np.uint8)
    image[20:30, 20:30] = 140
    mask = np.zeros((60, 60), np.uint8)
    assert contrast(image, mask) is None
    mask[20:30, 20:30] = 1
    assert contrast(image, mask) == 40
    assert contrast(image, np.ones_like(mask)) is None


def test_large_pictures_are_shrunken_and_thin_defects_survive_it():
    """A scratch of one pixel in 2048 must still be outlined at 960."""
    truth = np.zeros((2048, 2048), np.uint8)
    truth[1001, 300:1500] = 1
    shown = render_example(
        collect(make_picture("NG/thin", truth, truth.astype(np.uint16) * 300)), report_bundle()
    )
    assert (shown.width, shown.height) == (960, 960)
    picture = Image.open(io.BytesIO(base64.b64decode(shown.picture.partition(",")[2])))
    assert picture.size == (960, 960)
    left, top, right, bottom = _bounds(shown.truth)
    assert left == pytest.approx(300 / 2048 * 960, abs=3)
    assert right == pytest.approx(1500 / 2048 * 960, abs=3)
    assert top < 1001 / 2048 * 960 < bottom


def test_a_large_test_split_shows_and_keeps_pictures_of_both_labels(tmp_path):
    """Sorted by name, all defective pictures come first."""
    big = judge_model(tmp_path / "big", pairs=200)
    assert sorted(g.verdict for g in big.bundle.golden) == ["NG", "NG", "OK", "OK"]
    page, _, deciding = big.report.read_text().partition("<h2>What decided the threshold</h2>")
    assert deciding.count("<article") == 4
    assert deciding.index("OK/") < deciding.index("NG/")
    assert page.count("<h3>Good, called OK") == page.count("<h3>Defective, called NG") == 20


def test_of_large_frames_fewer_are_kept(monkeypatch):
    monkeypatch.setattr(examples, "HELD_BYTES", 12_000)
    collector = ExampleCollector()
    for number in range(30):
        evaluated = evaluate_picture(make_picture(f"OK/{number:02}", NONE, box(5, 5, 2, 2, 300)))
        collector.add(evaluated._replace(image=bytes(1000)))
    assert len(collector.kinds["OK"]) == 12
    monkeypatch.setattr(examples, "HELD_BYTES", 1)
    collector.add(evaluated)
    assert len(collector.kinds["OK"]) == LEAST_SHOWN


def test_what_is_shown_can_be_told_from_numbers_alone(monkeypatch):
    """Where files are large, it depends on the order in which they came."""
    monkeypatch.setattr(examples, "HELD_BYTES", 12_000)
    random, seen = np.random.default_rng(0), []
    for number in range(40):
        one = evaluate_picture(make_picture(f"OK/{number:02}", NONE, box(5, 5, 2, 2, 300)))
        size = int(random.integers(100, 4000))
        seen.append(one._replace(pair=one.pair._replace(image_bytes=size), image=bytes(size)))

    def kept(some):
        collector = ExampleCollector()
        for one in some:
            collector.add(one)
        return [example.pair for example in collector.examples]

    chosen = choose_shown([one.pair for one in seen], [one.counted for one in seen])
    assert chosen == kept(seen) != kept(reversed(seen))
    # Looked at once more, in another order, none of them goes.
    assert kept(one for one in reversed(seen) if one.pair in chosen) == chosen
