"""How long a server is waited for, and that every answer of another form becomes an error that helps."""

import time
from collections.abc import Callable

import pytest
from small_pipeline import assert_helps

from defectline.components.common.errors import ServingError, SettingsError
from defectline.pipeline.kfp_server import transport
from defectline.pipeline.kfp_server.client import Server
from defectline.pipeline.kfp_server.runs import list_cluster_runs
from defectline.pipeline.kfp_server.schedules import list_schedules

pytestmark = pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")

PLACES = ("/experiments", "/pipelines", "/runs", "/recurringruns")
ODD = {
    "a list": ("[]", "application/json"),
    "a text": ('"fine"', "application/json"),
    "null": ("null", "application/json"),
    "a page": ("<html>Sign in</html>", "text/html"),
    "a page that claims to be JSON": ("<html>Sign in</html>", "application/json"),
    "an encoding": ("{}", "application/json; charset=martian"),
    "no ids": (
        '{"experiments": [{}], "pipelines": [{}], "pipeline_versions": [{}], "runs": [{}], '
        '"recurringRuns": [{}]}',
        "application/json",
    ),
    "the same page again and again": ('{"next_page_token": "more"}', "application/json"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_of_another_form_is_an_error_that_helps(run, apply, server, odd, method):
    apply()
    body, kind = ODD[odd]
    calls: list[Callable[[], object]] = [
        lambda: run(experiment="another"),
        lambda: apply(experiment="another"),
        lambda: list_cluster_runs(host=server.host, namespace="", token="", limit=5),
        lambda: list_schedules(host=server.host),
    ]
    errors = []
    for place in PLACES:
        server.faults.clear()
        server.fail(method, place, 200, body, content_type=kind)
        for call in calls:
            try:
                call()
            except SettingsError as error:
                errors.append(error)
    assert errors
    for error in errors:
        assert_helps(error, "does not answer as a Kubeflow Pipelines 2 server", "when asked to")


@pytest.mark.parametrize("place", ["/runs", "/experiments"])
def test_nothing_is_made_of_an_empty_answer(run, server, place):
    server.fail("POST", place, 200, "{}")
    with pytest.raises(SettingsError) as caught:
        run()
    assert_helps(caught.value, "the answer without", "_id", "when asked to create the")


@pytest.mark.parametrize("place", ["/pipelines", "/upload_version", "/recurringruns"])
def test_no_schedule_is_made_of_an_empty_answer(apply, server, place):
    server.fail("POST", place, 200, "{}")
    with pytest.raises(SettingsError) as caught:
        apply()
    assert_helps(caught.value, "the answer without", "_id", "when asked to")


def test_a_version_that_the_server_has_forgotten_is_not_the_newest(apply, server):
    apply()
    server.fail("GET", "/versions", 200, "{}")
    server.versions.clear()
    with pytest.raises(SettingsError, match="is not the latest version"):
        apply(latest=True)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_page_in_another_encoding(server, monkeypatch, status):
    send = "höflich".encode("latin-1")
    server.fail("GET", "/healthz", status, "page")
    monkeypatch.setattr(
        transport.api.rest.RESTResponse, "data", property(lambda self: send, lambda self, data: None), False
    )
    with pytest.raises((SettingsError, ServingError)) as caught:
        Server(server.host, "", "")
    assert_helps(caught.value)


def test_a_server_that_accepts_and_stays_silent_is_asked_once(server, monkeypatch):
    monkeypatch.setattr(transport, "READ_TIMEOUT_S", (5, 0.3))
    server.fail("GET", "/healthz", 200, silent=True)
    began = time.monotonic()
    with pytest.raises(ServingError) as caught:
        Server(server.host, "", "")
    assert time.monotonic() - began < 3
    assert_helps(caught.value, "no answer within 0.3 s")
    assert "user interface" not in caught.value.fix
    assert len(server.requests) == 1


def test_reading_ends_within_15_seconds_and_changing_has_longer():
    assert max(transport.READ_TIMEOUT_S) <= 15 < transport.CHANGE_TIMEOUT_S[1]
