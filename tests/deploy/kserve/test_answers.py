"""What answers in the place of the API server is told apart from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.api import ApiServer
from cluster.loopback import Handler, served
from cluster.world import NAME, NAMESPACE

from defectline.components.common.errors import ServingError
from defectline.components.deploy.api_form import kind_of
from defectline.components.deploy.kserve.cluster import RUNTIMES, SERVICES, Cluster, Permission

LOGIN = f"<html>\n<title>Log in</title>{'<p>Please.</p>' * 50}</html>"
ASK: dict[str, Callable[[Cluster], object]] = {
    "get": lambda cluster: cluster.get(SERVICES, NAME),
    "list": lambda cluster: cluster.all_of(RUNTIMES),
    "groups": lambda cluster: cluster.api_groups(),
    "resources": lambda cluster: cluster.resources("serving.kserve.io", "v1beta1"),
    "rights": lambda cluster: cluster.allowed(Permission("get", "", "pods")),
    "secret": lambda cluster: cluster.secret("s3-keys"),
    "labels": lambda cluster: cluster.labels(),
    "config_map": lambda cluster: cluster.config_map("inferenceservice-config", "kserve"),
    "pods": lambda cluster: cluster.pods({"a": "b"}),
    "event": lambda cluster: cluster.latest_event(NAME),
    "create": lambda cluster: cluster.create(SERVICES, {"metadata": {"name": NAME}}),
    "delete": lambda cluster: cluster.delete(SERVICES, {"metadata": {"name": NAME, "uid": "1"}}),
}


class _Proxy(Handler):
    """Answers every request alike."""

    status = 200
    text = b""

    def _serve(self) -> None:
        self.body()
        self.send(self.status, "text/html", self.text)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes], Cluster]]:
    """The cluster of a kubeconfig that leads to a server which gives this answer."""
    api = ApiServer()
    with served(_Proxy) as api.url:
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

        def answer(status: int, text: bytes) -> Cluster:
            monkeypatch.setattr(_Proxy, "status", status)
            monkeypatch.setattr(_Proxy, "text", text)
            return Cluster(NAMESPACE)

        yield answer


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
@pytest.mark.parametrize(
    "text",
    [
        LOGIN.encode(),
        b'{"status": "ok"}',
        b"[]",
        b"null",
        b"3",
        b"",
        b"\xff\xfe",
        # Of the API's form on the outside alone.
        b'{"kind": 3, "items": 4}',
    ],
)
def test_another_answer_with_success_is_not_taken_for_an_object(answer, ask, text: bytes):
    with pytest.raises(ServingError, match="What answers is not the API of Kubernetes") as caught:
        ask(answer(200, text))
    assert len(caught.value.got) < 210
    assert "\n" not in caught.value.got
    assert "kubeconfig" in caught.value.fix


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_page_that_is_not_found_does_not_say_that_an_object_is_missing(answer, ask):
    with pytest.raises(ServingError, match="The cluster refuses to") as caught:
        ask(answer(404, LOGIN.encode()))
    assert caught.value.got.startswith("404 <html> <title>Log in")
    assert len(caught.value.got) < 210


def test_a_refusal_whose_message_is_not_a_text(answer):
    with pytest.raises(ServingError, match="The cluster refuses to"):
        answer(404, b'{"message": ["no"]}').all_of(SERVICES)


def test_a_log_may_be_any_text(answer):
    assert answer(200, b"<html>").log("pod-1", "main", 5) == "<html>"


def test_a_server_may_leave_the_version_of_its_lists_out():
    assert kind_of('{"kind": "APIResourceList", "groupVersion": "v1", "resources": []}') == "APIResourceList"
    assert kind_of('{"kind": "Pod"}') == kind_of('["Pod"]') == kind_of("<html>") == ""
