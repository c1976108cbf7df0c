"""Which JSON is an answer of the API of Kubeflow Pipelines."""

import kfp_server_api as api
import pytest

from defectline.pipeline.kfp_server.form import NEEDED, OddAnswer, check_form

RUN = {"run_id": "a", "display_name": "first", "created_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("V2beta1ListRunsResponse", {}),
        ("V2beta1ListRunsResponse", {"runs": None, "total_size": 0, "a_new_field": [1]}),
        ("V2beta1ListRunsResponse", {"runs": [RUN | {"created_at": "2026-01-01T00:00:00.123456789Z"}]}),
        ("V2beta1Run", RUN | {"finished_at": "0001-01-01T00:00:00Z", "state": "A_NEW_STATE"}),
        ("V2beta1Run", RUN | {"pipeline_spec": {"root": {}}, "runtime_config": {"parameters": {"a": [1]}}}),
        ("V2beta1RecurringRun", {"recurring_run_id": "a", "display_name": "b", "max_concurrency": 1}),
    ],
)
def test_answers_of_the_api(kind, value):
    check_form(value, kind, "the answer")


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("V2beta1Run", {}, "the answer without run_id and display_name and created_at"),
        ("V2beta1Run", RUN | {"run_id": ""}, "without run_id"),
        ("V2beta1Run", RUN | {"run_id": {}}, "the answer.run_id that is not a text or a number: {}"),
        ("V2beta1Run", RUN | {"created_at": "yesterday"}, "the answer.created_at that is not a time"),
        ("V2beta1Run", RUN | {"created_at": "2026-01-01T00:00:00"}, "not a time"),
        ("V2beta1Run", RUN | {"created_at": 5}, "not a text: 5"),
        ("V2beta1Run", RUN | {"state": 5}, "the answer.state that is not a text: 5"),
        ("V2beta1Run", RUN | {"runtime_config": {"parameters": []}}, "parameters that is not a mapping"),
        ("V2beta1ListRunsResponse", None, "the answer that is not a mapping: null"),
        ("V2beta1ListRunsResponse", [], r"the answer that is not a mapping: \[\]"),
        ("V2beta1ListRunsResponse", {"runs": {}}, "the answer.runs that is not a list"),
        ("V2beta1ListRunsResponse", {"runs": [RUN, None]}, r"the answer.runs\[1\] that is not a mapping"),
    ],
)
def test_what_is_not_one_is_named(kind, value, says):
    with pytest.raises(OddAnswer, match=says):
        check_form(value, kind, "the answer")


def test_what_is_needed_are_names_of_the_api():
    for kind, names in NEEDED.items():
        assert set(names) <= getattr(api, kind).openapi_types.keys()
