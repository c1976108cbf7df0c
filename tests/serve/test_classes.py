"""A model of several classes behind every protocol, in the client, in tables, and on the page."""

import base64
import csv
import json
from collections.abc import Iterator

import pytest
import requests
from bundles import make_bundle
from endpoints import Running, metric, post, serving, v1_body, v2_body
from kinds import CLASSES, draw_kinds, write_kinds_network
from pictures import encode
from playwright.sync_api import expect
from tensors import by_name, from_grpc, from_tensors, infer

from defectline.client import Client
from defectline.client.batch import inspect_all, write_csv
from defectline.components.common.images.colours import colour_of
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.storage import checksums

IMAGE, TRUTH = draw_kinds([1, 2, 3, 2], 0)
PICTURE = encode(IMAGE)
AREAS = {"dent": 72, "scratch": 144, "stain": 72}


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("kinds") / "model"
    make_bundle(folder)
    write_kinds_network(folder / "openvino/model.xml")
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "classes": CLASSES}))
    checksums.seal(folder)
    with serving(folder, tmp_path_factory.mktemp("log") / "log") as running:
        yield running


def test_every_protocol_says_the_class_of_each_region_and_the_area_of_each_class(running):
    with Client(running.url, "plates") as client:
        found = client.inspect(PICTURE)
    assert found.class_areas_px == AREAS
    named = {region.bbox[1]: region.class_ for region in found.regions}
    assert [named[y] for y in sorted(named)] == ["dent", "scratch", "stain", "scratch"]
    assert all(region.class_probability > 0.9 for region in found.regions)
    asked = requests.post(f"{running.url}/v2/models/plates/infer", json=v2_body(PICTURE), timeout=60)
    v2 = from_tensors(by_name(asked.json()))
    assert json.loads(v2["class_areas_px"]) == AREAS
    assert {region["class"] for region in v2["regions"]} == {*CLASSES}
    described = requests.get(f"{running.url}/v2/models/plates", timeout=60).json()
    assert "class_areas_px" in [output["name"] for output in described["outputs"]]
    over_grpc = from_tensors(from_grpc(infer(running.grpc, PICTURE)))
    assert over_grpc == v2


def test_prometheus_counts_what_is_found_of_each_class(running):
    def counts() -> dict[str, list[float]]:
        names = [f"defectline_class_{name}_total" for name in ("pictures", "regions", "area_px")]
        return {
            kind: [metric(running.url, f'{name}{{class="{kind}"}}') for name in names] for kind in CLASSES
        }

    before = counts()
    post(f"{running.url}/v1/models/plates:predict", v1_body(PICTURE, encode(draw_kinds([], 1)[0])))
    more = {kind: [b - a for a, b in zip(before[kind], counts()[kind], strict=True)] for kind in CLASSES}
    assert more == {"dent": [1, 1, 72], "scratch": [1, 2, 144], "stain": [1, 1, 72]}


def test_the_mask_holds_the_numbers_of_classes(running):
    answer = requests.post(
        f"{running.url}/v1/models/plates:predict",
        PICTURE,
        headers={"Content-Type": "image/png"},
        timeout=60,
    )
    (prediction,) = answer.json()["predictions"]
    mask = decode_mask(base64.b64decode(prediction["mask_png"]), numbered=True)
    assert (mask == TRUTH).all()


def test_tables_have_a_column_for_the_area_of_each_class(running, tmp_path):
    for name, content in (("bad.png", PICTURE), ("good.png", encode(draw_kinds([], 1)[0]))):
        (tmp_path / name).write_bytes(content)
    with Client(running.url, "plates") as client:
        pictures = [tmp_path / "bad.png", tmp_path / "good.png"]
        done = inspect_all(client, pictures, overlays=tmp_path / "overlays").done
    write_csv(done, tmp_path / "all.csv")
    bad, good = csv.DictReader((tmp_path / "all.csv").read_text().splitlines())
    assert {name: int(bad[f"area_px {name}"]) for name in CLASSES} == AREAS
    assert {good[f"area_px {name}"] for name in CLASSES} == {"0"}
    assert {region[5] for region in json.loads(bad["regions"])} == {*CLASSES}


def test_the_page_shows_classes_in_their_colours(running, browser, tmp_path):
    tab = browser.new_page()
    said: list[str] = []
    tab.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(running.url)
    tab.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    expect(tab.locator("#word")).to_have_text("NG", timeout=60_000)
    facts = tab.locator("#facts").inner_text()
    for name, area in AREAS.items():
        assert f"{name}\n{area} px" in facts
    assert "probability" in tab.locator("#regions li").nth(0).inner_text()
    colours = tab.evaluate(
        """() => {
          const mask = document.getElementById("mask"), seen = new Set();
          const {data} = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
          for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data.slice(i, i + 3).join());
          return [...seen];
        }"""
    )
    assert {*colours} == {",".join(map(str, colour_of(number))) for number in (1, 2, 3)}
    tab.screenshot(path=tmp_path / "page.png", full_page=True)
    tab.close()
    assert said == []
