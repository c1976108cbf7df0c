"""The inspection page in a browser, as a real predictor serves it."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import requests
from bundles import make_bundle
from endpoints import error_of, metric, serving, wait_for_metric
from networks import draw, write_network
from pictures import encode
from PIL import Image
from playwright.sync_api import Page, Route, expect

from defectline.components.common.bundle import read_bundle
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.common.review import frame_id
from defectline.components.common.storage import checksums, open_storage
from defectline.pipeline.catalog.review import list_frames

SIZE = 320
MODEL = 'plates "2" & <b>'
"""A name that a page must not take for markup."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A published model with grades."""
    folder = tmp_path_factory.mktemp("served") / "model"
    make_bundle(folder)
    write_network(folder / "openvino/model.xml", SIZE, 1, 40.0)
    content = json.loads((folder / "bundle.json").read_text())
    content["imaging"]["image_size"] = SIZE
    (folder / "bundle.json").write_text(json.dumps({**content, "grades": {"a_px": 20, "b_px": 900}}))
    checksums.seal(folder)
    return folder


@pytest.fixture(scope="module")
def judge(model) -> Callable[[bytes], dict]:
    """What evaluate would say about a picture."""
    bundle = read_bundle(model)
    network = Network(model / bundle.network, bundle.imaging)

    def judge(picture: bytes) -> dict:
        found = answer(network.score_map(picture), bundle.threshold, bundle.min_area_px)
        return {**to_prediction(found, bundle.grades), "model_version": bundle.version}

    return judge


@pytest.fixture(scope="module")
def url(model, tmp_path_factory) -> Iterator[str]:
    """The endpoint, as a process."""
    with serving(model, tmp_path_factory.mktemp("log") / "log", name=MODEL) as running:
        yield running.url


Open = Callable[..., Page]
# A busy machine is slow, and nothing here is about speed.
expect.set_options(timeout=60_000)


@pytest.fixture
def visit(browser, url) -> Iterator[Open]:
    """Opens the page; at the end nothing must have been loaded from elsewhere, or been forbidden."""
    contexts, said, asked, pages = [], [], [], []

    def visit(init: str = "", width: int = 1280, at: str = url, **options) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        if init:
            context.add_init_script(init)
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(at)
        pages.append(at)
        return tab

    yield visit
    for context in contexts:
        context.close()
    # That a request failed is logged by the browser itself.
    assert [line for line in said if "Failed to load resource" not in line] == []
    assert [a for a in asked if not a.startswith((*pages, "blob:", "data:"))] == []


def _picture(label: str = "NG", seed: int = 3, size: int = SIZE) -> bytes:
    return encode(draw(label, np.random.default_rng(seed), size)[0])


def _file(name: str = "plate.png", content: bytes | None = None) -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": _picture() if content is None else content}


def _send(tab: Page, *files: dict) -> None:
    tab.locator("#file").set_input_files(list(files or (_file(),)))
    expect(tab.locator("#main")).to_have_attribute("aria-busy", "false")


def _shot(tab: Page, path: Path) -> np.ndarray:
    data = tab.screenshot(path=path, full_page=True)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_shows_what_was_found_on_any_screen(visit, judge, tmp_path, width, scheme):
    tab = visit(width=width, color_scheme=scheme, has_touch=width < 500, is_mobile=width < 500)
    _shot(tab, tmp_path / "empty.png")
    many = draw("NG", np.random.default_rng(5), SIZE)[0]
    for place in range(20, 300, 40):
        many[place : place + 6, place : place + 9] = 250
    _send(tab, _file("good.png", _picture("OK")), _file("a part with a rather long name.png", encode(many)))
    found = judge(encode(many))
    assert len(found["regions"]) > 3
    expect(tab.locator("#word")).to_have_text("NG")
    expect(tab.locator("#meaning")).to_have_text(f"Defective: {len(found['regions'])} regions")
    facts = tab.locator("#facts").inner_text()
    assert f"{found['score']:.3f}" in facts
    assert f"{found['defect_area_px']:,} px" in facts
    assert f"Grade\n{found['grade']}" in facts
    assert found["model_version"] in facts
    assert re.search(r"Time in the server\n\d+ ms", facts)
    rows = tab.locator("#regions li")
    expect(rows).to_have_count(len(found["regions"]))
    x, y, w, h = found["regions"][0]["bbox"]
    assert f"at {x}, {y}, size {w}×{h}" in rows.nth(0).inner_text()
    _shot(tab, tmp_path / f"{width}-{scheme}.png")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.title() == f"Inspect · {MODEL}"
    small = tab.evaluate(
        "[...document.querySelectorAll('.pick label, .regions button, .history button')]"
        ".filter(e => e.offsetParent).map(e => e.getBoundingClientRect().height)"
    )
    assert min(small) >= 40
    assert tab.locator("label.photo").is_visible() == (width < 500)


def _red(tab: Page) -> int:
    shot = np.asarray(Image.open(io.BytesIO(tab.locator("#frame").screenshot())).convert("RGB")).astype(int)
    return int((shot[..., 0] - shot[..., 1] > 60).sum())


def test_the_mask_lies_over_the_picture_and_can_be_hidden(visit, judge):
    tab = visit()
    _send(tab)
    assert tab.locator("#picture").evaluate("i => [i.naturalWidth, i.naturalHeight]") == [SIZE, SIZE]
    painted = tab.locator("#mask").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        ".filter((value, index) => index % 4 == 3 && value).length"
    )
    assert painted == judge(_picture())["defect_area_px"]
    half = _red(tab)
    assert half > 500
    tab.get_by_label("Opacity").fill("0")
    boxes = _red(tab)
    assert 0 < boxes < half
    tab.get_by_label("Findings").uncheck()
    assert _red(tab) == 0
    assert tab.get_by_label("Opacity").is_disabled()
    tab.get_by_label("Findings").check()
    assert _red(tab) == boxes


def test_it_works_without_a_mouse_and_is_told_aloud(visit):
    tab = visit()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "file"
    assert tab.get_by_label("Choose pictures").count() == 1
    _send(tab)
    expect(tab.get_by_role("status")).to_contain_text("plate.png: NG, grade B, score")
    expect(tab.get_by_role("img", name="plate.png, called NG")).to_be_visible()
    for _ in range(2):
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "opacity"
    tab.keyboard.press("Tab")
    region = tab.get_by_role("list", name="Regions").get_by_role("button").first
    expect(region).to_be_focused()
    expect(tab.locator(".box").first).to_have_class("box lit")
    tab.keyboard.press("Enter")
    expect(region).to_have_attribute("aria-pressed", "true")
    tab.keyboard.press("Tab")
    # It stays lit until it is pressed again.
    expect(tab.locator(".box").first).to_have_class("box lit")
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, input')].filter(e => !(e.textContent.trim() || "
        "e.getAttribute('aria-label') || (e.labels && e.labels.length))).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_good_parts_have_no_regions(visit):
    tab = visit()
    _send(tab, _file("good.png", _picture("OK")))
    expect(tab.locator("#word")).to_have_text("OK")
    expect(tab.locator("#meaning")).to_have_text("No defect found")
    expect(tab.locator("#regions-title")).to_be_hidden()
    expect(tab.locator("#tools")).to_be_hidden()


@pytest.mark.parametrize("path", ["/line/2/", "/line/2"])
def test_it_works_behind_a_prefix(visit, url, path):
    came = []

    def gateway(route: Route) -> None:
        came.append(urlsplit(route.request.url).path)
        route.continue_(url=route.request.url.replace("/line/2", "", 1))

    tab = visit()
    tab.route(f"{url}/line/2**", gateway)
    tab.goto(url + path)
    _send(tab)
    assert came[:2] == [path, f"/line/2/v1/models/{quote(MODEL)}:predict"]
    # The model's level and its region of interest.
    assert {one.rpartition("/versions/")[0] for one in came[2:]} == {f"/line/2/v2/models/{quote(MODEL)}"}
    expect(tab.locator("#word")).to_have_text("NG")


# The region of interest


@pytest.fixture
def framed_tab(visit, framed) -> Open:
    return partial(visit, at=framed.url)


def _outside(tab: Page) -> np.ndarray:
    """How bright the picture is where it does not count."""
    shot = Image.open(io.BytesIO(tab.locator("#frame").screenshot())).convert("L")
    return np.asarray(shot)[:, -shot.width // 4 :]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_what_lies_outside_of_the_region_is_dimmed(framed_tab, roi, tmp_path, width, scheme):
    tab = framed_tab(width=width, color_scheme=scheme, has_touch=width < 500, is_mobile=width < 500)
    light = np.full(roi.shape, 200, np.uint8)
    light[10:14, 10:30] = 255
    _send(tab, _file("part.png", encode(light)))
    expect(tab.get_by_role("img", name="part.png, called NG, dimmed where it does not count")).to_be_visible()
    alpha = tab.locator("#outside").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        ".filter((value, index) => index % 4 == 3)"
    )
    assert np.array_equal(np.reshape(alpha, roi.shape), np.where(roi, 0, 255))
    _shot(tab, tmp_path / f"framed-{width}-{scheme}.png")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert np.median(_outside(tab)) < 100
    tab.get_by_label("Dim what does not count").uncheck()
    assert np.median(_outside(tab)) > 180


def test_a_good_part_is_dimmed_too_and_after_a_reload(framed_tab, roi):
    tab = framed_tab()
    _send(tab, _file("good.png", encode(np.full(roi.shape, 200, np.uint8))))
    expect(tab.locator("#word")).to_have_text("OK")
    for _ in range(2):
        expect(tab.get_by_label("Dim what does not count")).to_be_visible()
        expect(tab.get_by_label("Findings")).to_be_hidden()
        assert np.median(_outside(tab)) < 100
        tab.reload()
        tab.get_by_role("button", name="good.png").click()


def test_without_an_answer_about_the_region_nothing_is_dimmed(framed_tab, roi):
    tab = framed_tab()
    tab.route("**/roi", lambda route: route.abort())
    picture = _file("part.png", encode(np.full(roi.shape, 200, np.uint8)))
    _send(tab, picture)
    expect(tab.locator("#word")).to_have_text("OK")
    expect(tab.locator("#tools")).to_be_hidden()
    tab.unroute("**/roi")
    _send(tab, picture)
    expect(tab.get_by_label("Dim what does not count")).to_be_visible()


def test_pictures_can_be_dropped(visit):
    tab = visit()
    transfer = tab.evaluate_handle(
        "bytes => { const t = new DataTransfer();"
        "t.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'})); return t; }",
        list(_picture()),
    )
    tab.dispatch_event("#view", "dragover", {"dataTransfer": transfer})
    expect(tab.locator("#view")).to_have_class("view over")
    tab.dispatch_event("#view", "drop", {"dataTransfer": transfer})
    expect(tab.locator("#word")).to_have_text("NG")
    expect(tab.locator("#view")).to_have_class("view")


def test_a_tiff_that_the_browser_cannot_show_is_judged_all_the_same(visit):
    tab = visit()
    tiff = encode(draw("NG", np.random.default_rng(3), SIZE)[0], "TIFF")
    _send(tab, {"name": "plate.tif", "mimeType": "", "buffer": tiff})
    expect(tab.locator("#word")).to_have_text("NG")
    expect(tab.locator("#facts")).to_contain_text("cannot show the file")
    expect(tab.locator("#frames")).to_contain_text("no preview")
    assert _red(tab) > 500


# The last pictures


def test_the_last_pictures_come_back_after_a_reload(visit):
    tab = visit()
    _send(tab, _file("bad.png"), _file("good.png", _picture("OK")))
    tab.reload()
    buttons = tab.get_by_role("region", name="Last pictures").get_by_role("listitem").get_by_role("button")
    expect(buttons).to_have_count(2)
    assert buttons.nth(1).get_attribute("aria-label").startswith("bad.png, NG, score ")
    buttons.nth(1).click()
    expect(tab.locator("#word")).to_have_text("NG")
    expect(buttons.nth(1)).to_have_attribute("aria-current", "true")
    assert _red(tab) > 500
    tab.get_by_role("button", name="Clear").click()
    expect(tab.locator("#history")).to_be_hidden()
    tab.reload()
    expect(tab.locator("#history")).to_be_hidden()


def test_only_some_of_them_are_kept(visit):
    tab = visit()
    _send(tab, *[_file(f"{number}.png", _picture(size=32)) for number in range(14)])
    expect(tab.locator("#frames li")).to_have_count(12)
    expect(tab.locator("#frames li").first).to_contain_text("13.png")


FORBIDDEN = (
    "Object.defineProperty(window, 'sessionStorage',"
    " {get() { throw new DOMException('no', 'SecurityError'); }});"
)
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"


@pytest.mark.parametrize("init", [FORBIDDEN, FULL])
def test_it_works_where_nothing_may_be_stored(visit, init):
    tab = visit(init=init)
    _send(tab, _file("bad.png"), _file("good.png", _picture("OK")))
    tab.get_by_role("button", name="bad.png, NG").click()
    expect(tab.locator("#word")).to_have_text("NG")


# What goes wrong


def test_a_file_that_is_refused(visit, tmp_path):
    tab = visit()
    _send(tab)
    _send(tab, _file("notes.png", b"no picture"))
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text("notes.png: This file is not accepted.")
    expect(alert).to_contain_text("10 bytes")
    expect(alert).to_contain_text(re.compile(r"\(HTTP 400, invalid_image, request [0-9a-f]{8,}\)"))
    expect(tab.get_by_role("button", name="Try again")).to_be_hidden()
    expect(tab.locator("#result")).to_be_hidden()
    _shot(tab, tmp_path / "refused.png")
    _send(tab)
    expect(alert).to_be_hidden()


def test_of_several_files_every_failure_is_told(visit, tmp_path):
    tab = visit()
    bad = [_file(f"notes{number}.png", b"no picture") for number in (1, 2)]
    _send(tab, bad[0], _file(), bad[1])
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text("2 of 3 files have no verdict.")
    for name in ("notes1.png", "notes2.png"):
        expect(alert).to_contain_text(f"{name}: This file is not accepted.")
    expect(tab.locator("#word")).to_have_text("NG")
    _shot(tab, tmp_path / "several.png")


BUSY = {"error": {"code": "overloaded", "message": "32 pictures are waiting.", "request_id": "r-17"}}


def test_a_busy_endpoint_is_told_and_asked_again(visit, tmp_path):
    tab = visit(width=390)
    tab.route("**/*:predict", lambda route: route.fulfill(status=503, json=BUSY))
    _send(tab)
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text("plate.png: The endpoint is busy, or not ready.")
    expect(alert).to_contain_text("32 pictures are waiting. (HTTP 503, overloaded, request r-17)")
    _shot(tab, tmp_path / "busy.png")
    tab.unroute("**/*:predict")
    tab.get_by_role("button", name="Try again").click()
    expect(tab.locator("#word")).to_have_text("NG")
    expect(alert).to_be_hidden()


def test_other_answers_are_told(visit):
    tab = visit()
    answers: list[tuple[dict | None, str, str]] = [
        ({"status": 404, "body": '{"error": "no model"}'}, "There is no model plates", "no model (HTTP 404)"),
        ({"status": 500, "body": "<h1>boom</h1>"}, "The endpoint failed", "HTTP 500"),
        ({"status": 200, "body": "<h1>Log in</h1>"}, "cannot be read", "HTTP 200"),
        ({"status": 200, "body": '{"predictions": []}'}, "cannot be read", "HTTP 200"),
        (None, "cannot be reached", "Check the network"),
    ]
    asked = iter(answers)

    def reply(route: Route) -> None:
        answered = next(asked)[0]
        route.fulfill(**answered) if answered else route.abort()

    tab.route("**/*:predict", reply)
    for _, what, why in answers:
        _send(tab, _file(content=b"small"))
        expect(tab.locator("#what")).to_contain_text(what)
        expect(tab.locator("#why")).to_contain_text(why)


def test_while_it_waits_nothing_else_is_sent_and_at_last_it_gives_up(visit):
    tab = visit()
    held: list[Route] = []
    _send(tab)
    tab.clock.install()
    tab.route("**/*:predict", lambda route: held.append(route))
    tab.locator("#file").set_input_files([_file()])
    expect(tab.locator("#main")).to_have_attribute("aria-busy", "true")
    expect(tab.locator("#wait")).to_be_visible()
    # Nobody takes the last picture's verdict for this one's.
    expect(tab.locator("#result")).to_be_hidden()
    assert tab.locator("#file").is_disabled()
    tab.clock.fast_forward(31_000)
    expect(tab.get_by_role("alert")).to_contain_text("No answer within 30 seconds.")
    expect(tab.locator("#file")).to_be_enabled()
    assert len(held) == 1


def test_the_policy_lets_only_the_pages_own_script_run(browser, url):
    tab = browser.new_page()
    tab.goto(url)
    blocked = tab.evaluate(
        "new Promise(done => { addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        "const s = document.createElement('script'); s.textContent = 'document.title = 1';"
        "document.body.append(s); })"
    )
    assert blocked.startswith("script-src")
    assert tab.title() == f"Inspect · {MODEL}"
    tab.close()


def test_it_can_be_switched_off(model, tmp_path):
    with serving(model, tmp_path / "log", "--no_page") as running:
        answered = requests.get(running.url, timeout=60)
    assert answered.json() == {"status": "alive"}


def test_a_wrong_verdict_goes_to_review(visit, model, tmp_path):
    store = str(tmp_path / "store")
    options = ["--review", store, "--review_share", "0"]
    with serving(model, tmp_path / "log", *options) as running:
        tab = visit(at=running.url)
        sure = _picture("OK")
        _send(tab, _file("good.png", sure))
        expect(tab.locator("#word")).to_have_text("OK")
        tab.locator("#wrong").click()
        expect(tab.locator("#kept")).to_have_text("kept for review")
        wait_for_metric(running.url, "defectline_review_written_total", 1)
        # It counts once as a frame of the line.
        assert metric(running.url, "defectline_drift_frames") == 1
    (item,) = list_frames(open_storage(store), "plates", pytest.fail)
    assert (item.frame.id, item.frame.reason) == (frame_id(sure), "asked")


def test_where_nothing_is_kept_there_is_no_button(visit, url):
    tab = visit()
    _send(tab)
    expect(tab.locator("#word")).to_have_text("NG")
    assert not tab.locator("#wrong").is_visible()
    refused = requests.post(f"{url}/v1/models/{quote(MODEL)}:predict?review=true", _picture(), timeout=60)
    assert refused.status_code == 400
    assert "keeps nothing for review" in error_of(refused)["message"]


def test_a_slider_shows_what_another_level_would_call(visit, url):
    tab = visit()
    _send(tab, _file("good.png", _picture("OK")), _file("bad.png", _picture("NG")))
    expect(tab.locator("#word")).to_have_text("NG")
    metadata = requests.get(f"{url}/v2/models/{quote(MODEL)}", timeout=60).json()
    threshold = float(metadata["properties"]["threshold"])
    expect(tab.locator("#level-at")).to_have_text(f"{threshold:.3f}, the model's own")
    expect(tab.locator("#then")).to_have_text("")
    tab.locator("#level").fill("1")
    expect(tab.locator("#then")).to_have_text("0 NG, 2 OK; otherwise than now: bad.png")
    tab.locator("#level").fill("0.001")
    expect(tab.locator("#then")).to_contain_text("otherwise than now: good.png")
    if folder := os.environ.get("SCREENSHOTS"):
        tab.screenshot(path=f"{folder}/levels.png", full_page=True)


def _go_nearer(tab: Page, whole: dict[str, float]) -> None:
    """By the wheel, as far as one likes, and about by dragging, no further than to the picture's edges."""

    def box() -> dict[str, float]:
        return tab.locator("#frame").bounding_box()

    tab.mouse.move(whole["x"] + 100, whole["y"] + 100)
    tab.keyboard.down("Control")
    tab.mouse.wheel(0, -300)
    tab.keyboard.up("Control")
    expect(tab.locator("#view")).to_have_class("view near")
    for _ in range(12):
        tab.mouse.wheel(0, -300)
    tab.wait_for_function("near.by === NEAREST")
    assert box()["width"] == pytest.approx(24 * whole["width"], rel=0.01)
    assert box()["x"] == pytest.approx(whole["x"] + 100 - 24 * 100, abs=24)
    before = box()
    tab.mouse.down()
    tab.mouse.move(whole["x"] + 160, whole["y"] + 70, steps=5)
    tab.mouse.up()
    assert (box()["x"] - before["x"], box()["y"] - before["y"]) == pytest.approx((60, -30), abs=1)
    # That was no click.
    assert box()["width"] == before["width"]
    tab.mouse.down()
    tab.mouse.move(whole["x"] + 9000, whole["y"] + 9000, steps=3)
    tab.mouse.up()
    assert (box()["x"], box()["y"]) == pytest.approx((whole["x"], whole["y"]), abs=1)
    for _ in range(9):
        tab.keyboard.press("-")
    assert box() == whole


def test_a_click_goes_nearer_and_arrows_lead_through_the_pictures(visit):
    tab = visit()
    _send(tab, _file("first.png", _picture("OK")), _file("second.png", _picture("NG")))
    expect(tab.locator("#word")).to_have_text("NG")
    expect(tab.locator("#totals")).to_have_text("1 NG, 1 OK")
    whole = tab.locator("#frame").bounding_box()
    tab.locator("#frame").click(position={"x": 30, "y": 40})
    assert tab.locator("#frame").bounding_box()["width"] == pytest.approx(3 * whole["width"], rel=0.01)
    # What was clicked stays where it was.
    assert tab.locator("#frame").bounding_box()["x"] == pytest.approx(whole["x"] - 2 * 30, abs=2)
    tab.locator("#view").click(position={"x": 60, "y": 60})
    assert tab.locator("#frame").bounding_box() == whole
    _go_nearer(tab, whole)
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("#facts")).to_contain_text("first.png")
    tab.keyboard.press("ArrowLeft")
    expect(tab.locator("#facts")).to_contain_text("second.png")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
