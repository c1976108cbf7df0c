"""One run of the suite on one cluster: set up before the first test, removed after the last, and told."""

import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from e2e import summary
from e2e.knobs import Knobs
from e2e.kube import Kube, dump
from e2e.reach import look
from e2e.suite import Suite

from defectline.components.common.errors import DefectlineError

SUITE = pytest.StashKey[Suite]()
ROWS = pytest.StashKey[list[summary.Row]]()
LEFT = pytest.StashKey[list[str]]()
DONE: set[str] = set()
"""Names of the tests that passed, on which later ones build."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS], config.stash[LEFT] = [], []


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Any:
    """The S3 server of a played cluster, which must outlast the suite."""
    return request.getfixturevalue("s3_server") if os.environ.get("E2E_STAND_IN") else None


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest, servers: Any) -> Iterator[Suite]:
    # So that a suite that is told to end cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        if os.environ.get("E2E_STAND_IN"):
            from e2e.stand_in import stand_in

            stack.enter_context(stand_in(servers, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        try:
            knobs = Knobs.read(os.environ, secrets.token_hex(3))
        except DefectlineError as error:
            pytest.exit(str(error), returncode=2)
        if unreachable := look(knobs):
            pytest.exit("\n".join(map(str, unreachable)), returncode=2)
        (knobs.results / "commands.log").unlink(missing_ok=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="defectline-e2e-")))
        made = Suite(knobs, Kube(knobs.kubeconfig), folder)
        request.config.stash[SUITE] = made
        made.cleaner.add("the store's folder", made.remove_store)
        made.cleaner.add("runs and experiment", made.remove_runs)
        yield made
        knobs.results.mkdir(parents=True, exist_ok=True)
        if (said := folder / "commands.log").exists():
            (knobs.results / "commands.log").write_text(said.read_text())
        if knobs.keep:
            request.config.stash[LEFT] += [f"everything, as E2E_KEEP asks: {knobs.namespace}, {knobs.folder}"]
        else:
            request.config.stash[LEFT] += made.cleaner.clean()


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says in one line what a test found."""
    return lambda text: request.node.user_properties.append(("found", text))


@pytest.fixture
def needs(suite: Suite, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Skips by name where what a test builds on, or an API of the cluster, is missing."""

    def need(*tests: str, group: str = "") -> None:
        for test in tests:
            if test not in DONE:
                pytest.skip(f"needs what did not work before: {summary.title(test)}")
        if group and group not in suite.kube.groups():
            pytest.skip(f"this cluster has no API {group}")

    return need


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        said = dict(item.user_properties).get("found", "")
        if report.outcome == "skipped":
            said = str(call.excinfo.value) if call.excinfo else ""
        elif report.outcome == "failed":
            said = summary.first_line(str(call.excinfo.value)) if call.excinfo else ""
            _keep_what_tells_why(item)
        else:
            DONE.add(item.name)
        row = summary.Row(item.name, report.outcome, report.duration, said)
        item.config.stash[ROWS].append(row)
        # At once, for a suite that takes an hour: what it saw so far.
        print(f"\n{summary.as_text([row])}", file=sys.__stderr__, flush=True)
    return report


def _keep_what_tells_why(item: pytest.Item) -> None:
    suite = item.config.stash.get(SUITE, None)
    if suite is None:
        return
    place = suite.knobs.results / item.name
    place.mkdir(parents=True, exist_ok=True)
    for namespace in (suite.knobs.namespace, suite.knobs.line, suite.knobs.steps_namespace):
        try:
            for name, content in dump(suite.kube, namespace).items():
                (place / name).write_text(content)
        except Exception as error:  # what is there is told; the test's own failure counts
            (place / f"{namespace}.txt").write_text(repr(error))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows, suite = config.stash[ROWS], config.stash.get(SUITE, None)
    if not rows:
        return
    where = "stand-ins on this machine" if os.environ.get("E2E_STAND_IN") else "the cluster of KUBECONFIG"
    terminalreporter.section("what the cluster did")
    terminalreporter.write_line(summary.as_text(rows))
    left = config.stash[LEFT]
    terminalreporter.write_line(f"left behind: {'; '.join(left) or 'nothing'}")
    if suite:
        (suite.knobs.results / "summary.md").write_text(summary.as_markdown(rows, where, left))
        there = ["summary.md"]
        there += ["commands.log"] if (suite.knobs.results / "commands.log").exists() else []
        there += ["what failures left"] if any(row.result == "failed" for row in rows) else []
        terminalreporter.write_line(f"{suite.knobs.results}/ has {' and '.join(there)}")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Any:
    # After Ctrl-C the fixtures end only in here.
    result = yield
    if session.config.stash[LEFT] and not os.environ.get("E2E_KEEP"):
        session.exitstatus = max(int(session.exitstatus), 1)
        print("some things were left behind", file=sys.stderr)
    return result
