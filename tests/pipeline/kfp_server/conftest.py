"""A stand-in of the server, and functions that start runs and schedules there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler
from kfp_api import KfpApi, running
from small_pipeline import PARAMETERS, tiny

from defectline.pipeline.kfp_server import schedules, transport
from defectline.pipeline.kfp_server.runs import RunResult, submit
from defectline.pipeline.kfp_server.schedules import Schedule, apply_schedule


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "RETRY_BACKOFF_S", 0)
    monkeypatch.setattr(schedules, "SETTLE_S", 0)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compiler.Compiler().compile(tiny, str(path))
    return path


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


@pytest.fixture
def run(package: Path, server: KfpApi) -> Callable[..., RunResult]:
    def run(**changes: Any) -> RunResult:
        options: dict[str, Any] = {
            "host": server.host,
            "name": "first",
            "parameters": PARAMETERS,
            "timeout_s": 20.0,
            "poll_s": 0.001,
        }
        return submit(**({"package": package} | options | changes))

    return run


@pytest.fixture
def apply(package: Path, server: KfpApi) -> Callable[..., Schedule]:
    def apply(**changes: Any) -> Schedule:
        options: dict[str, Any] = {
            "host": server.host,
            "name": "nightly",
            "cron": "0 2 * * 1-5",
            "parameters": PARAMETERS,
        }
        return apply_schedule(**({"package": package} | options | changes))

    return apply
