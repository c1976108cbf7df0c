"""A judged bundle, a store, and that no test leaves a predictor behind."""

import psutil
import pytest
from networks import Judged, judge_model

from defectline.components.common.storage import Storage, open_storage


@pytest.fixture(scope="session")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


@pytest.fixture
def store(tmp_path) -> Storage:
    return open_storage(str(tmp_path / "store"))


def predictors() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {process.pid for process in children if "defectline.components.serve" in process.cmdline()}


@pytest.fixture(autouse=True)
def nothing_left():
    """No test may leave a predictor behind; others of this process may share one for longer."""
    before = predictors()
    yield
    assert predictors() <= before
