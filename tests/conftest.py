"""Fixtures of every test, the order of tests, and what a skip means."""

import os
from typing import TYPE_CHECKING

import pytest
from servers import *  # noqa: F403

if TYPE_CHECKING:
    from stores import Factory


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> "Factory":
    """Three runs on one store, which tests only read."""
    from stores import operate

    return operate(tmp_path_factory.mktemp("factory"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: those that train come last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REQUIRE_ALL=1 a skip is a failure: CI installs all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("REQUIRE_ALL") == "1" and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
