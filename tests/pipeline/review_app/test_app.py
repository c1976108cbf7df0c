"""The review in a browser: a real server, two people, and what is left when one of them is killed."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from bundles import levels
from frames import IDS, SCORES, SIZE, keep_frames
from kinds import CLASSES
from networks import draw, judge_model
from pictures import encode, noise
from playwright.sync_api import Browser, Page, Route, expect
from servers import free_port, running

from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.layout import model_folder
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.serve.monitoring.review import Reviewer
from defectline.pipeline.catalog.audit import read_audit
from defectline.pipeline.catalog.review import list_frames
from defectline.pipeline.catalog.review_export import export


@contextmanager
def reviewing(root: Path, by: str = "ada", *options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """`defectline review open` on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "defectline.cli", "review", "open", "--store", str(root)]
    command += ["--name", "plates", "--no-browser", "--by", by, "--port", str(port), *options]
    with running(command, port, root.parent / "review.log") as process:
        yield f"http://127.0.0.1:{port}", process


def _keep_judged(folder: Path) -> tuple[FolderStorage, np.ndarray]:
    """A store with the model that judged its only frame; and the true mask of that."""
    judged = judge_model(folder)
    store, version = FolderStorage(folder / "reviewed"), judged.bundle.version
    store.upload_folder(judged.folder, model_folder("plates", version))
    _, truth = draw("NG", np.random.default_rng(5))
    picture = np.where(truth > 0, 250, 100).astype(np.uint8)
    found = answer(np.zeros((SIZE, SIZE), np.uint16), 0.5, 4)
    said = {**to_prediction(found), "model_version": version, "latency_ms": 1.0}
    reviewer = Reviewer(store, "plates")
    assert reviewer.offer(encode(picture), 0.49, levels(), lambda: said)
    assert reviewer.close(60)
    return store, truth > 0


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    return keep_frames(tmp_path / "store")


@pytest.fixture
def ada(store) -> Iterator[str]:
    with reviewing(Path(store.root)) as (url, _):
        yield url


def _frames(url: str) -> dict[str, dict[str, Any]]:
    return {frame["id"]: frame for frame in requests.get(f"{url}/api/frames", timeout=60).json()["frames"]}


def _decide(url: str, id: str, verdict: str, seen: str | None = None, **more: Any) -> requests.Response:
    body = {"verdict": verdict, "seen": seen, **more}
    return requests.post(f"{url}/api/frames/{id}", json=body, timeout=60)


def _drawn(pixels: int, at: int = 22) -> str:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[at : at + pixels // 8, at : at + 8] = 1
    return base64.b64encode(encode_mask(mask)).decode()


def _decisions(store: FolderStorage) -> dict[str, str]:
    return {item.frame.id: item.state for item in list_frames(store, "plates", pytest.fail)}


def test_those_that_teach_most_come_first(ada):
    order = [SCORES[IDS.index(id)] for id in _frames(ada)]
    # Near to 0.5 first; what chance has kept is not compared with them, and comes last.
    assert order == [0.52, 0.45, 0.3, 0.7, 0.1]
    kept = {SCORES[IDS.index(id)]: frame["why"] for id, frame in _frames(ada).items()}
    assert kept == {0.1: "by chance", 0.3: "in doubt", 0.45: "in doubt", 0.52: "in doubt", 0.7: "in doubt"}


def test_a_decision_is_in_the_store_and_in_the_audit_file_when_it_is_answered(store, ada):
    answered = _decide(ada, IDS[1], "NG", mask=_drawn(64))
    assert answered.status_code == 200, answered.text
    assert answered.json()["frame"]["state"] == "accepted NG"
    (item,) = [item for item in list_frames(store, "plates", pytest.fail) if item.frame.id == IDS[1]]
    assert item.decision.by == "ada"
    shown = decode_mask(requests.get(f"{ada}/api/frames/{IDS[1]}/mask", timeout=60).content)
    assert shown.sum() == 64
    seen = answered.json()["frame"]["seen"]
    assert _decide(ada, IDS[1], "open", seen).json()["frame"]["state"] == "open"
    found = read_audit(store, "plates")
    assert [(entry.by, entry.verdict, bool(entry.mask)) for entry in found.entries] == [
        ("ada", "NG", True),
        ("ada", "open", False),
    ]
    assert not found.broken


def test_names_are_a_line_that_changes_nothing_around_it(store, ada):
    assert _decide(ada, IDS[0], "OK", by="\x1b[31m Grace\u202e \n\0Hopper ").status_code == 200
    (entry,) = read_audit(store, "plates").entries
    assert entry.by == "[31m Grace Hopper"


def test_no_name_ends_the_script_of_the_page(store, opened):
    with reviewing(Path(store.root), "</script><b>x") as (url, _):
        page = opened(url)
        expect(page.locator("#by")).to_have_value("</script><b>x")
        expect(page.locator("#grid li")).to_have_count(5)


def test_two_people_never_overwrite_one_another(store, ada):
    with reviewing(Path(store.root), "bob") as (bob, _):
        seen = {id: frame["seen"] for id, frame in _frames(bob).items()}
        assert _decide(ada, IDS[0], "OK", seen[IDS[0]]).status_code == 200
        late = _decide(bob, IDS[0], "NG", seen[IDS[0]], mask=_drawn(64))
        assert late.status_code == 409
        assert late.json()["error"] == "ada has decided meanwhile: accepted OK."
        # Having seen that, he may.
        assert _decide(bob, IDS[0], "NG", late.json()["frame"]["seen"], mask=_drawn(64)).status_code == 200

        def race(who: str) -> int:
            return _decide(who, IDS[2], "OK", seen[IDS[2]]).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(race, [ada, bob] * 4))
        assert sorted(statuses) == [200] + [409] * 7
    found = read_audit(store, "plates")
    assert len(found.entries) == 3
    assert not found.broken


def test_kill_loses_nothing_that_was_shown_as_saved(store):
    with reviewing(Path(store.root)) as (url, process):
        for id in IDS[:3]:
            assert _decide(url, id, "OK").status_code == 200
        os.kill(process.pid, signal.SIGKILL)
    states = _decisions(store)
    assert [states[id] for id in IDS[:3]] == ["accepted OK"] * 3
    found = read_audit(store, "plates")
    assert ([entry.frame for entry in found.entries], found.broken) == (IDS[:3], "")


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (_drawn(8), "only 8 px"),
        (_drawn(64, at=50), "nowhere near"),
        (base64.b64encode(encode_mask(np.ones((SIZE, SIZE), np.uint8))).decode(), "covers 100%"),
        (_drawn(64), ""),
    ],
)
def test_an_odd_mask_asks_once_more(store, ada, mask, says):
    asked = _decide(ada, IDS[1], "NG", mask=mask)
    if not says:
        assert asked.status_code == 200
        return
    assert asked.status_code == 422
    assert says in asked.json()["odd"]
    assert _decisions(store)[IDS[1]] == "open"
    assert _decide(ada, IDS[1], "NG", mask=mask, sure=True).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"verdict": "NG"}', "application/json", 400),
        (b'{"verdict": "MAYBE", "seen": null}', "application/json", 400),
        (b'{"verdict": "NG", "seen": null, "mask": "%%"}', "application/json", 400),
        (b'{"verdict": "NG", "seen": null, "mask": "AAAA"}', "application/json", 400),
        (b'{"verdict": "OK", "seen": null}', "text/plain", 415),
    ],
)
def test_what_is_not_a_decision_changes_nothing(store, ada, body, kind, status):
    answered = requests.post(f"{ada}/api/frames/{IDS[0]}", body, headers={"content-type": kind}, timeout=60)
    assert (answered.status_code, set(answered.json())) == (status, {"error"})
    assert requests.get(f"{ada}/api/frames/{'0' * 32}/image", timeout=60).status_code in (400, 404)
    assert set(_decisions(store).values()) == {"open"}


TOKEN = "reviewers-0123456789"


def test_without_a_token_nothing_is_shown_and_nothing_decided(store, tmp_path):
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    with reviewing(Path(store.root), "ada", "--token-file", str(tmp_path / "tokens")) as (url, _):
        paths = [
            "api/frames",
            *(f"api/frames/{IDS[0]}{more}" for more in ("/image", "/mask", "/likelihood", "")),
        ]
        for path in paths:
            for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
                assert requests.request(method, f"{url}/{path}?token={TOKEN}", timeout=60).status_code == 401
        assert set(_decisions(store).values()) == {"open"}
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{url}/api/frames", headers=allowed, timeout=60).status_code == 200


def test_a_page_of_elsewhere_can_neither_ask_nor_frame_it(ada):
    answered = requests.get(ada, timeout=60)
    policy = answered.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    asked = requests.get(f"{ada}/api/frames", headers={"Origin": "https://elsewhere.example"}, timeout=60)
    assert not any(name.lower().startswith("access-control") for name in asked.headers)


def test_masks_of_several_classes_become_the_sources_numbers(tmp_path):
    store, source = keep_frames(tmp_path / "store", CLASSES), tmp_path / "source"
    (source / "OK").mkdir(parents=True)
    (source / "OK/a.png").write_bytes(encode(noise(99, SIZE)))
    # The model calls them 1 dent, 2 scratch, 3 stain; the source otherwise.
    (source / "classes.csv").write_text("value,name\n1,stain\n2,dent\n3,scratch\n")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[20:30, 20:30] = 3
    with reviewing(Path(store.root)) as (url, _):
        drawn = base64.b64encode(encode(mask)).decode()
        assert _decide(url, IDS[1], "NG", mask=drawn).status_code == 200
    export(store, "plates", open_storage(str(source)), pytest.fail)
    (written,) = (source / "NG_MSK").iterdir()
    assert set(np.unique(decode_mask(written.read_bytes(), numbered=True))) == {0, 1}


# As people see it


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    contexts = []

    def tab(url: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(url)
        return page

    yield tab
    for context in contexts:
        context.close()


def test_frames_are_decided_with_keys_and_taken_back(store, ada, opened):
    page = opened(ada)
    expect(page.locator("#count")).to_contain_text("5 of 5 frames wait")
    page.locator("#grid button", has_text="0.520").click()
    expect(page.locator("#facts")).to_contain_text("in doubt")
    # What is not shown yet is not decided about.
    expect(page.locator("#told")).to_have_text("")
    page.locator("#stage").press("o")
    expect(page.locator("#told")).to_have_text(f"{IDS[1][:8]} is saved as OK")
    expect(page.locator("#count")).to_contain_text("4 of 5")
    assert _decisions(store)[IDS[1]] == "accepted OK"
    page.keyboard.press("u")
    expect(page.locator("#told")).to_have_text(f"The decision about {IDS[1][:8]} is taken back")
    assert _decisions(store)[IDS[1]] == "open"
    page.keyboard.press("Escape")
    expect(page.locator("#grid li")).to_have_count(5)


def test_a_token_is_typed_once(store, opened, tmp_path):
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    with reviewing(Path(store.root), "ada", "--token-file", str(tmp_path / "tokens")) as (url, _):
        page = opened(url)
        expect(page.locator("#told")).to_have_text("This review asks for a token.")
        page.locator("#token").fill("ключ")
        page.locator("#token").press("Enter")
        expect(page.locator("#told")).to_contain_text("A token has letters")
        page.locator("#token").fill("wrong")
        page.locator("#token").press("Enter")
        expect(page.locator("#told")).to_have_text("This token does not open the review.")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/review-token.png")
        page.locator("#token").fill(TOKEN)
        page.locator("#enter").click()
        expect(page.locator("#grid li")).to_have_count(5)
        page.reload()
        expect(page.locator("#grid li")).to_have_count(5)
        expect(page.locator("#by")).to_have_value("ada")
        page.locator("#by").fill(" Grace  Hopper ")
        page.locator("#by").blur()
        page.reload()
        _open(page, "0.520")
        page.locator("#stage").press("o")
        expect(page.locator("#told")).to_contain_text("is saved as OK")
        assert [entry.by for entry in read_audit(store, "plates").entries] == ["Grace Hopper"]
        assert TOKEN not in page.url


def _open(page: Page, score: str) -> dict[str, float]:
    page.locator("#grid button", has_text=score).click()
    expect(page.locator("#facts")).to_contain_text(score)
    expect(page.locator("#ok")).to_be_enabled()
    return page.locator("#stage").bounding_box()


def _at(page: Page, box: dict[str, float], x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the frame is on the screen."""
    view = page.evaluate("({...state.view, ratio: devicePixelRatio})")
    return tuple(
        start + (view[side] + at * view["scale"]) / view["ratio"]
        for start, side, at in ((box["x"], "x", x), (box["y"], "y", y))
    )


@pytest.mark.parametrize("tool", ["brush", "polygon"])
def test_a_mask_is_drawn_where_nothing_was_found(store, ada, opened, tool):
    page = opened(ada)
    box = _open(page, "0.450")
    page.locator("#stage").press("n")
    expect(page.locator("#told")).to_have_text("Draw the defect first: the mask is empty.")
    page.keyboard.press(tool[0])
    page.mouse.move(*_at(page, box, 10, 12))
    if tool == "brush":
        page.mouse.down()
        page.mouse.move(*_at(page, box, 40, 12), steps=5)
        page.mouse.up()
    else:
        for x, y in ((10, 10), (40, 10), (40, 20), (10, 20)):
            page.mouse.click(*_at(page, box, x, y))
        page.keyboard.press("Enter")
    page.keyboard.press("n")
    expect(page.locator("#told")).to_have_text(f"{IDS[2][:8]} is saved as NG")
    (item,) = [item for item in list_frames(store, "plates", pytest.fail) if item.frame.id == IDS[2]]
    mask = decode_mask(store.read(item.key.folder + item.decision.mask))
    xs = np.nonzero(mask.any(axis=0))[0]
    assert (abs(xs.min() - 10) <= 4, abs(xs.max() - 40) <= 4) == (True, True)
    assert int(mask.sum()) == pytest.approx(36 * 6 if tool == "brush" else 30 * 10, rel=0.15)


def test_a_click_fills_what_the_model_sees_around_it(tmp_path, opened):
    store, truth = _keep_judged(tmp_path)
    with reviewing(Path(store.root)) as (url, _):
        page = opened(url)
        box = _open(page, "0.000")
        page.keyboard.press("f")
        ys, xs = np.nonzero(truth)
        page.mouse.click(*_at(page, box, xs[0] + 0.5, ys[0] + 0.5))
        expect(page.locator("#told")).to_contain_text("px filled")
        page.mouse.click(*_at(page, box, SIZE - 4, SIZE - 4))
        expect(page.locator("#told")).to_have_text("The model sees nothing here: use the brush or a polygon.")
        page.locator("#stage").press("n")
        expect(page.locator("#told")).to_contain_text("saved as NG")
    (item,) = list_frames(store, "plates", pytest.fail)
    mask = decode_mask(store.read(item.key.folder + item.decision.mask)) > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_without_the_model_a_click_says_so(ada, opened):
    page = opened(ada)
    box = _open(page, "0.450")
    page.keyboard.press("f")
    page.mouse.click(*_at(page, box, 25, 25))
    expect(page.locator("#told")).to_have_text(
        "The model v1 is not in the store. Draw with the brush or a polygon."
    )


def test_what_was_found_is_erased_and_a_stroke_taken_back(store, ada, opened):
    page = opened(ada)
    box = _open(page, "0.700")
    found = page.evaluate("state.mask.reduce((sum, one) => sum + one, 0)")
    assert found == 140
    page.keyboard.press("e")
    for x in (21, 31):
        page.mouse.move(*_at(page, box, x, 25))
        page.mouse.down()
        page.mouse.up()
    erased = page.evaluate("state.mask.reduce((sum, one) => sum + one, 0)")
    assert erased < found - 30
    page.keyboard.press("z")
    assert erased < page.evaluate("state.mask.reduce((sum, one) => sum + one, 0)") < found


def _press_at(page: Page, box: dict[str, float], tool: str, *places: tuple[float, float]) -> None:
    page.keyboard.press(tool)
    for x, y in places:
        page.mouse.click(*_at(page, box, x, y))


def _marked(page: Page) -> int:
    return page.evaluate("state.mask.reduce((sum, one) => sum + one, 0)")


def _mask_of(store: FolderStorage, id: str) -> int:
    """Pixels of the mask that was drawn; 0 for none."""
    (item,) = [item for item in list_frames(store, "plates", pytest.fail) if item.frame.id == id]
    assert item.decision
    if not item.decision.mask:
        return 0
    return int(decode_mask(store.read(item.key.folder + item.decision.mask)).sum())


def _slow(page: Page) -> None:
    def later(route: Route) -> None:
        page.wait_for_timeout(1000)
        route.continue_()

    page.route("**/image", later)


def test_nothing_is_decided_about_a_frame_that_is_not_there_yet(store, ada, opened):
    page = opened(ada)
    box = _open(page, "0.520")
    _press_at(page, box, "b", (50, 50))
    _slow(page)
    page.keyboard.press("n")
    expect(page.locator("#ok")).to_be_disabled()
    for key in ("n", "o", "b"):
        page.keyboard.press(key)
    page.mouse.click(*_at_centre(box))
    expect(page.locator("#told")).to_have_text(f"{IDS[1][:8]} is saved as NG")
    assert sorted(_decisions(store).values()) == ["accepted NG"] + ["open"] * 4
    # Nothing of the frame before is on this one.
    assert _marked(page) == 0


def _at_centre(box: dict[str, float]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_frame_that_cannot_be_shown_cannot_be_decided(store, ada, opened):
    page = opened(ada)
    _open(page, "0.520")
    page.route("**/image", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    expect(page.locator("#told")).to_have_text("The server does not answer.")
    expect(page.locator("#ng")).to_be_disabled()
    page.keyboard.press("n")
    assert set(_decisions(store).values()) == {"open"}


def test_what_is_shown_is_what_is_saved(store, ada, opened):
    page = opened(ada)
    box = _open(page, "0.700")
    _press_at(page, box, "b", (50, 50))
    drawn = _marked(page)
    page.locator("#found").click()
    assert _marked(page) == 140
    page.locator("#stage").press("z")
    assert _marked(page) == drawn
    page.keyboard.press("n")
    expect(page.locator("#told")).to_contain_text("is saved as NG")
    assert _mask_of(store, IDS[3]) == drawn


def test_a_held_key_and_a_double_click_decide_once(store, ada, opened):
    page = opened(ada)
    _open(page, "0.520")
    for _ in range(8):
        # Without a release between, as a held key comes.
        page.keyboard.down("o")
        page.wait_for_timeout(60)
    page.keyboard.up("o")
    expect(page.locator("#told")).to_contain_text("is saved as OK")
    assert sorted(_decisions(store).values()) == ["accepted OK"] + ["open"] * 4
    page.wait_for_timeout(500)
    page.locator("#ok").dblclick(delay=50)
    expect(page.locator("#count")).to_contain_text("3 of 5")
    page.wait_for_timeout(500)
    assert sorted(_decisions(store).values()) == ["accepted OK"] * 2 + ["open"] * 3


def test_undo_brings_the_drawing_back(store, ada, opened):
    page = opened(ada)
    box = _open(page, "0.700")
    _press_at(page, box, "b", (50, 50))
    drawn = _marked(page)
    page.keyboard.press("n")
    expect(page.locator("#told")).to_contain_text("is saved as NG")
    page.keyboard.press("u")
    expect(page.locator("#told")).to_have_text(f"The decision about {IDS[3][:8]} is taken back")
    assert _decisions(store)[IDS[3]] == "open"
    assert _marked(page) == drawn


def test_undo_of_what_another_has_decided_since_says_so(store, ada, opened):
    page = opened(ada)
    _open(page, "0.300")
    page.locator("#stage").press("o")
    expect(page.locator("#told")).to_contain_text("is saved as OK")
    with reviewing(Path(store.root), "bob") as (bob, _):
        seen = _frames(bob)[IDS[0]]["seen"]
        assert _decide(bob, IDS[0], "NG", seen, mask=_drawn(64)).status_code == 200
    page.keyboard.press("u")
    expect(page.locator("#told")).to_have_text("Not saved: bob has decided meanwhile: accepted NG.")
    assert _decisions(store)[IDS[0]] == "accepted NG"


def test_no_drawing_is_lost_on_the_way(store, ada, opened):
    page = opened(ada)
    box = _open(page, "0.520")
    _press_at(page, box, "b", (50, 50))
    drawn = _marked(page)
    for there, back in (("ArrowRight", "ArrowLeft"), ("Escape", "")):
        page.keyboard.press(there)
        if back:
            expect(page.locator("#facts")).to_contain_text("0.450")
            expect(page.locator("#ok")).to_be_enabled()
            page.keyboard.press(back)
            expect(page.locator("#facts")).to_contain_text("0.520")
        else:
            page.locator("#grid button", has_text="0.520").click()
        expect(page.locator("#told")).to_have_text("What you had drawn here is there again.")
        assert _marked(page) == drawn
    page.go_back()
    expect(page.locator("#grid li")).to_have_count(5)
    assert page.url.rstrip("/") == ada


def test_corners_of_a_polygon_are_taken_back(ada, opened):
    page = opened(ada)
    box = _open(page, "0.450")
    _press_at(page, box, "p", (10, 10), (40, 10), (40, 30))
    page.keyboard.press("z")
    assert page.evaluate("state.line.length") == 2
    page.keyboard.press("Escape")
    assert page.evaluate("state.line.length") == 0
    expect(page.locator("#one")).to_be_visible()
    page.locator("#size").focus()
    page.keyboard.press("Control+z")
    page.keyboard.press("h")
    expect(page.locator("#hide")).to_have_attribute("aria-pressed", "true")


def test_two_fingers_zoom_and_paint_nothing(ada, opened):
    page = opened(ada, viewport={"width": 360, "height": 800}, has_touch=True)
    box = _open(page, "0.450")
    page.locator("[data-tool=brush]").tap()
    x, y = _at_centre(box)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = page.evaluate("state.view.scale")
    touch("touchStart", (x, y))
    touch("touchStart", (x, y), (x + 40, y))
    for apart in (50, 60, 80):
        touch("touchMove", (x, y), (x + apart, y))
    touch("touchEnd", (x, y))
    touch("touchMove", (x + 10, y + 10))
    touch("touchEnd")
    assert page.evaluate("state.view.scale") > 1.3 * before
    assert _marked(page) == 0
    touch("touchStart", (x, y))
    touch("touchEnd")
    assert _marked(page) > 0


def test_who_decides_must_say_so(store, ada, opened):
    page = opened(ada)
    page.locator("#by").fill(" ")
    _open(page, "0.450")
    page.locator("#stage").press("o")
    expect(page.locator("#told")).to_have_text("Say who you are first, above.")
    assert set(_decisions(store).values()) == {"open"}


def test_a_server_that_is_gone_is_told(store, opened):
    with reviewing(Path(store.root)) as (url, process):
        page = opened(url)
        _open(page, "0.450")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        page.keyboard.press("Escape")
        expect(page.locator("#told")).to_have_text("The server does not answer.")


def test_the_second_of_two_sees_what_the_first_has_decided(store, ada, opened):
    page = opened(ada)
    _open(page, "0.300")
    with reviewing(Path(store.root), "bob") as (bob, _):
        assert _decide(bob, IDS[0], "OK").status_code == 200
    page.locator("#stage").press("o")
    expect(page.locator("#told")).to_have_text("Not saved: bob has decided meanwhile: accepted OK.")
    expect(page.locator("#facts")).to_contain_text("accepted OK by bob")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_the_screen(ada, opened, width, scheme, tmp_path):
    page = opened(ada, viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width < 500)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    expect(page.locator("#grid li")).to_have_count(5)
    assert page.evaluate(fits)
    _open(page, "0.700")
    assert page.evaluate(fits)
    assert page.locator("#ok").bounding_box()["height"] >= 44
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/review-{width}-{scheme}.png")
        page.locator("#back").click()
        expect(page.locator("#grid li")).to_have_count(5)
        page.wait_for_timeout(500)
        page.screenshot(path=f"{folder}/review-grid-{width}-{scheme}.png")
