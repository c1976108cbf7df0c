"""The page of a chain: on a phone, in the dark, and whatever names it shows."""

import os

import pytest

from defectline.pipeline.catalog.chain import Chain, Link
from defectline.pipeline.catalog.chain_page import write_page

VERSION = "v20260101-000000-000001"
LINKS = [
    Link("", "log", "proved", "12 lines follow one another"),
    Link(VERSION, "seal", "proved", "the files are those that were sealed"),
    Link(VERSION, "results", "broken", "runs/<b>one</b>/gate.json was changed"),
    Link(VERSION, "gate", "not proved", "not signed by anybody who is trusted: passed"),
    Link(VERSION, "provenance", "not there", "made by an earlier release, which wrote none"),
]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(browser, tmp_path, width, scheme):
    file = tmp_path / "chain.html"
    file.write_text(write_page(VERSION, Chain(LINKS, True)), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("li").count() == 5
    said = f"Broken: results of {VERSION}. runs/<b>one</b>/gate.json was changed"
    assert tab.locator(".all").text_content() == said
    assert tab.locator("li.broken .word").text_content() == "broken"
    if folder := os.environ.get("SCREENSHOTS"):
        tab.screenshot(path=f"{folder}/chain-{width}-{scheme}.png", full_page=True)
    tab.close()


def test_what_it_says_above_all():
    whole = [link for link in LINKS if link.state != "broken"]
    assert "Proved: every link that is there" in write_page(VERSION, Chain(whole, True))
    assert "no signature was checked" in write_page(VERSION, Chain(whole, False))
