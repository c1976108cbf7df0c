"""The documentation: it builds without a warning, its commands are commands, and the tutorial works."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from commands import call, defectline
from docs_site import commands
from kfp_api import KfpApi, on, running
from paths import ROOT

from defectline.components.common.bundle import Bundle
from defectline.components.common.ports import free_port
from defectline.components.serve.settings import ServeSettings
from defectline.components.train.settings import TrainSettings
from defectline.pipeline.config import as_yaml, describe
from defectline.pipeline.images import TARGETS, variable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLOORS = ("cli", "client", "pipeline", "components")
BLOCK = re.compile(r"(?:<!-- (?P<mark>.*?) -->\n)?^```sh\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = (
    "image_size=64 epochs=2 batch_size=8 pretraining=none quantize=false "
    "min_iou=0 max_escape=1 max_overkill=1"
)


class Block(NamedTuple):
    text: str
    mark: str
    """How it differs from one that is run to its end: `setup`, `keeps running`, `needs a cluster`."""


def blocks(page: Path) -> list[Block]:
    return [Block(found["text"], found["mark"] or "") for found in BLOCK.finditer(page.read_text())]


def build(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Make the site of a repository in `folder`/site."""
    command = [sys.executable, str(root / "tools/docs_site.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_on_the_site(site):
    built = {path.stem for path in site.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= built
    assert {"index", "cli", "changelog", "contributing", "licence"} <= built
    assert "src=inspected.png" in (site / "index.html").read_text().replace('"', "")


def test_every_field_of_a_bundle_is_described():
    text = (ROOT / "docs/store.md").read_text().partition("### bundle.json")[2].partition("## Exit")[0]
    described = re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in text.splitlines() if "|" in row))
    assert sorted(described) == sorted(Bundle.model_fields)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Each request would be a line above a failure."""


def test_every_setting_is_on_the_page_of_settings(site):
    page = (site / "settings.html").read_text()
    names = {setting.key.rpartition(".")[2] for setting in describe()}
    for name in names | TrainSettings.model_fields.keys():
        assert f"<code>{name}</code>" in page, name
    for name in ServeSettings.model_fields:
        assert f"<code>--{name}</code>" in page, name
    assert re.search(r"<code>min_iou</code></td>\s*<td><code>0.5</code></td>\s*<td>0 to 1</td>", page)
    assert re.search(r"<code>image_size</code></td>.*?<td>32 to 2048, a multiple of 32</td>", page, re.DOTALL)


def test_every_environment_variable_is_described():
    described = (ROOT / "docs/settings.md").read_text()
    own = {"DEFECTLINE_REPORTS", "TF_CPP_MIN_LOG_LEVEL", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"}
    own |= {"COMP_WORDS", "COMP_CWORD", "KFP_POD_NAME"}
    sources = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    found = re.compile(r"""(?:environ\.get\(|environ\[|envvar=|_ENV = |\bflag\()\s*"([A-Z][A-Z0-9_]+)\"""")
    variables = {name for path in sources for name in found.findall(path.read_text())} - own
    assert {"KFP_HOST", "DEFECTLINE_S3_ANONYMOUS", "MLFLOW_TRACKING_URI"} <= variables
    for name in sorted(variables):
        assert f"`{name}`" in described, name
    for target in TARGETS:
        assert variable(target).removeprefix("DEFECTLINE_IMAGE") in described, target


@pytest.fixture(scope="module")
def served(site) -> Iterator[str]:
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(site: Path, browser: "Browser", width: int, **options: Any) -> "tuple[Page, list[str]]":
    """A page of a browser, and what will have gone wrong in it: errors, and requests that leave the site."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 900}, **options), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(str(site)) else wrong.append(asked.url))
    return page, wrong


@pytest.mark.parametrize("width", [390, 1280])
def test_the_site_is_read_in_a_browser_and_no_request_leaves_it(site, served, browser, width):
    page, wrong = opened(served, browser, width)
    for path in sorted(site.glob("*.html")):
        if path.stem == "404":
            continue
        page.goto(f"{served}/{path.name}", wait_until="networkidle")
        assert page.locator("h1").first.is_visible(), path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        # The page hides what is wider than itself, so what it holds is looked at too. Tables may scroll on a
        # phone.
        kinds = "pre, h2, img" if width < 500 else "pre, h2, img, table"
        wide = f"[...document.querySelectorAll('article :is({kinds})')].filter(e => "
        wide += f"e.getBoundingClientRect().right > {width} || e.scrollWidth > e.clientWidth + 1)"
        assert page.evaluate(f"{wide}.map(e => e.textContent)") == [], path.name
        pictures = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert all(pictures), path.name
    page.close()
    assert not wrong


def search(page: "Page", words: str) -> list[str]:
    """What the page's search finds, best first."""
    dialog = page.get_by_role("dialog", name="Search")
    # The key does nothing until the page's script runs, and says nowhere when it does.
    while not dialog.locator("input").is_visible():
        page.keyboard.press("Control+k")
        page.wait_for_timeout(500)
    dialog.locator("input").fill(words)
    found = dialog.locator("a")
    found.first.wait_for()
    return found.all_inner_texts()


def test_the_site_is_searched(served, browser):
    page, wrong = opened(served, browser, 1280)
    page.goto(f"{served}/index.html", wait_until="networkidle")
    assert any("Evaluation and gate" in text for text in search(page, "escape_cost"))
    page.close()
    assert not wrong


def test_the_site_is_read_and_searched_as_files(site, browser):
    page, wrong = opened(site.as_uri(), browser, 1280)
    page.goto((site / "index.html").as_uri(), wait_until="networkidle")
    page.get_by_role("link", name="Tutorial").first.click()
    page.get_by_role("heading", name="From your own images to the line").wait_for()
    assert any("Evaluation and gate" in text for text in search(page, "escape_cost"))
    page.close()
    assert not wrong


def test_the_site_is_dark_where_the_system_is_and_by_a_switch(served, browser):
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(11, 12, 15)"
    for scheme, colour in (("light", light), ("dark", dark)):
        page, _ = opened(served, browser, 1280, color_scheme=scheme)
        page.goto(f"{served}/tutorial.html", wait_until="networkidle")
        assert page.evaluate(background) == colour
        page.get_by_title("Switch to light").click()
        assert page.evaluate(background) == light
        page.get_by_title("Switch to dark").click()
        assert page.evaluate(background) == dark
        page.reload(wait_until="networkidle")
        assert page.evaluate(background) == dark, "the choice is kept"
        page.get_by_title("Follow the system").click()
        assert page.evaluate(background) == colour
        page.close()


def test_code_is_highlighted_and_copied(served, browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{served}/tutorial.html", wait_until="networkidle")
    block = page.locator(".highlight", has_text="make setup").first
    block.hover()
    block.get_by_title("Copy to clipboard").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "make setup\n. .venv/bin/activate"
    page.goto(f"{served}/client.html", wait_until="networkidle")
    code = page.locator(".highlight code").first
    colours = code.locator("span").evaluate_all("all => all.map(e => getComputedStyle(e).color)")
    assert len(set(colours)) > 3
    context.close()


def test_the_command_line_is_described_from_its_parser(site):
    page = (site / "cli.html").read_text()
    for name in ("run", "schedule apply", "review accept"):
        assert re.search(rf"<h2[^>]*>{name}<", page), name
    for text in (
        "--time-zone",
        "--fail-on-gate",
        "KFP_HOST",
        "--no-review",
        "Train even where nothing is new.",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("defectline sched", "schedule"),
        ("defectline schedule pau", "pause"),
        ("defectline run --fa", "--fail-on-gate"),
    ],
)
def test_the_shell_completes(words, found):
    number = str(len(words.split()) - 1)
    env = {"_DEFECTLINE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
    assert defectline(env=env).stdout.split() == [found]


def test_broken_links_fail_the_build(tmp_path):
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "zensical.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with (tmp_path / "docs/client.md").open("a") as page:
        page.write("\n[one](nowhere.md) [two](data.md#nowhere) [three](../pyproject.toml) ![](no.png)\n")
    done = build(tmp_path, tmp_path / "build")
    assert done.returncode != 0
    said = re.sub("\x1b\\[[0-9;]*m", "", done.stdout + done.stderr)
    for problem in ("nowhere.md", "anchor does not exist", "data.md#nowhere", "pyproject.toml", "no.png"):
        assert problem in said


def test_every_page_is_in_the_menu(site):
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = set(re.findall(r"'([\w-]+)\.md'", str(nav)))
    assert listed == {path.stem for path in site.glob("*.html")} - {"404"}


def written() -> Iterator[tuple[str, list[str]]]:
    """Every `defectline` command of a shell block, with its page."""
    for page in PAGES:
        for block in blocks(page):
            for line in block.text.replace("\\\n", " ").splitlines():
                if re.match(r"(\.venv/bin/)?defectline ", line):
                    words = shlex.split(line, comments=True)
                    yield page.name, list(takewhile(lambda word: word not in ("|", ">"), words[1:]))


def test_commands_of_the_docs_are_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plates.yaml").write_text(as_yaml().replace('source: ""', "source: plates"))
    Path("products").mkdir()
    Path("products/plates.yaml").write_text(Path("plates.yaml").read_text())
    known, seen = commands(), set()
    for page, words in written():
        if words == ["--version"]:
            continue
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
        assert name, f"{page}: defectline {' '.join(words)}"
        arguments = words[len(name.split()) :]
        if "KFP_HOST" not in os.environ and any(p.envvar == "KFP_HOST" for p in known[name].params):
            arguments += ["--host", "https://kfp.example.com"]
        try:
            known[name].make_context(name, arguments)
        except Exception as error:
            pytest.fail(f"{page}: defectline {' '.join(words)}: {error!r} {getattr(error, 'message', '')}")
        seen.add(name)
    assert {"run", "submit", "schedule apply", "schedule request", "prune", "inspect"} <= seen


def test_the_documented_post_starts_a_run(package, tmp_path):
    (text,) = [b.text for b in blocks(ROOT / "docs/operation.md") if "apis/v2beta1/runs" in b.text]
    with running(KfpApi(token="secret")) as server:
        env = {**os.environ, "KFP_HOST": server.host, "KFP_TOKEN": "secret"}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KFP_TOKEN", "secret")
            assert call("schedule", "apply", *on(server, package), "--cron", "0 5 * * *").returncode == 0
        done = subprocess.run(["bash", "-ec", text], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (run,) = server.runs.values()
    assert run.runtime_config.parameters["source"] == "s3://plates/a"
    assert run.display_name == "defects-event"


@pytest.mark.slow
def test_the_tutorial_word_for_word(tmp_path):
    """All of its blocks in order, on few small pictures and with another port."""
    todo = [b for b in blocks(ROOT / "docs/tutorial.md") if b.mark not in ("setup", "needs a cluster")]
    assert [b.mark for b in todo].count("keeps running") == 1
    port = free_port()
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"COLUMNS": "200", "NO_COLOR": "1"}
    server = None
    said = ""
    try:
        for block in todo:
            text = block.text.replace("8080", str(port))
            text = re.sub(r"(?m)^(defectline sample .*)--pairs (300|12)\b", r"\1--pairs 24 --size 64", text)
            text = text.replace(
                "--set epochs=6 --set pretraining=none", " ".join(f"--set {pair}" for pair in SMALL.split())
            )
            if block.mark:
                server = subprocess.Popen(["bash", "-c", f"exec {text}"], cwd=tmp_path, env=env)
                wait_for(port, server)
                continue
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", text],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
    finally:
        if server:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
    assert said.count("deployed: ") == 2 or "refused" in said or "kept: " in said
    assert '"verdict"' in said
    assert list((tmp_path / "inspected").glob("*.png"))


def wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    url = f"http://localhost:{port}/v2/health/ready"
    while subprocess.run(["curl", "--silent", "--fail", "--output", os.devnull, url]).returncode:
        assert server.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.3)
