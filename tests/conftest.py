"""Fixtures of every test, the order of tests, and what a skip means."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers import *  # noqa: F403

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from stores import Factory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> "Factory":
    """Three runs on one store, which tests only read."""
    from stores import operate

    return operate(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, compiled for a cluster."""
    from commands import defectline

    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    pairs = ["--kserve", "min_replicas=2", "--kserve", "max_replicas=2", "--kserve", "canary_steps=5,50"]
    options = ["--namespace", "vision", "--gpus", "1", "--s3-secret", "s3-keys", "--adopt", *pairs]
    done = defectline("compile", "-o", path, *options)
    assert done.returncode == 0, done.stderr
    assert "vision" in done.stdout
    return path


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No lock file in the working directory, no image in the environment."""
    from defectline.pipeline.images import TARGETS, variable

    monkeypatch.chdir(tmp_path)
    for target in TARGETS:
        monkeypatch.delenv(variable(target), raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: those that train come last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REQUIRE_ALL=1 a skip is a failure: CI installs all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("REQUIRE_ALL") == "1" and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
