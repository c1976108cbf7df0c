import pytest
from networks import Judged, judge_model


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")
