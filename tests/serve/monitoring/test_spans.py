"""Spans, as a collector gets them over OTLP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from endpoints import PREDICT, START_S, plate, post, serving, v2_body
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from servers import free_port
from tensors import infer

from defectline.components.common.errors import SettingsError
from defectline.components.serve.monitoring import spans

PNG = plate()
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["queue", "decode", "infer", "answer"]


class _Collector(ThreadingHTTPServer):
    """Takes what is exported, or answers with `status`."""

    def __init__(self, status: int = 200):
        super().__init__(("127.0.0.1", 0), _Exported)
        self.status = status
        self.taken: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Span]:
        scopes = [scope for one in self.taken for of in one.resource_spans for scope in of.scope_spans]
        return [span for scope in scopes for span in scope.spans]


class _Exported(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces" and self.server.status == 200:
            self.server.taken.append(ExportTraceServiceRequest.FromString(data))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[_Collector]:
    with _Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def clean(monkeypatch) -> pytest.MonkeyPatch:
    for name in (
        *spans.ENDPOINTS,
        *spans.PROTOCOLS,
        spans.SERVICE,
        "OTEL_TRACES_EXPORTER",
        "OTEL_SDK_DISABLED",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _attributes(span: Span) -> dict[str, object]:
    found = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


def test_requests_and_their_stages_are_spans_of_the_callers_trace(model, collector, clean, tmp_path):
    clean.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    with serving(model, tmp_path / "log") as running:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "a"}
        post(running.url + PREDICT, PNG, "image/png", headers=headers)
        unsampled = {"traceparent": f"00-{TRACE}-{CALLER}-00", "x-request-id": "unsampled"}
        post(running.url + PREDICT, PNG, "image/png", headers=unsampled)
        post(f"{running.url}/v2/models/plates/infer", v2_body(PNG, plate(7, "OK"), id="b"))
        post(f"{running.url}{PREDICT}?secret=1", b"no picture", "image/png", headers={"x-request-id": "c"})
        infer(running.grpc, PNG)
        requests.get(f"{running.url}/v2/health/ready", timeout=5)
        running.process.terminate()
        running.process.wait(START_S)
    found = collector.spans()
    tops = {str(told.get("request.id")): span for span in found if (told := _attributes(span))}
    assert "unsampled" not in tops
    assert len(tops) == 4
    first, second, third = (tops[id] for id in "abc")
    (over_grpc,) = [span for id, span in tops.items() if id not in "abc"]
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, CALLER)
    assert (first.name, first.kind) == (f"POST {PREDICT}", Span.SPAN_KIND_SERVER)
    told = _attributes(first)
    assert (told["http.response.status_code"], told["defectline.verdicts"]) == (200, ["NG"])

    def below(span: Span) -> list[Span]:
        return [one for one in found if one.parent_span_id == span.span_id]

    assert [one.name for one in below(first)] == STAGES
    assert [one.name for one in below(second)] == [*STAGES, *STAGES[1:]]
    assert [one.name for one in below(over_grpc)] == STAGES
    for span in (first, second, over_grpc):
        times = [at for one in below(span) for at in (one.start_time_unix_nano, one.end_time_unix_nano)]
        assert span.start_time_unix_nano <= min(times) <= max(times) <= span.end_time_unix_nano
    assert (third.status.code, _attributes(third)["error.type"]) == (
        Status.STATUS_CODE_ERROR,
        "invalid_request",
    )
    assert not any(b"secret" in one.SerializeToString() for one in collector.taken)
    resource = {
        one.key: one.value.string_value for one in collector.taken[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "defectline-plates"


def test_no_answer_waits_for_a_collector_that_is_away(model, clean, tmp_path):
    clean.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with serving(model, tmp_path / "log") as running:
        for _ in range(3):
            assert post(running.url + PREDICT, PNG, "image/png").status_code == 200
        running.process.terminate()
        assert running.process.wait(START_S) == 0


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_spans_are_sent_where_a_collector_is_named(clean, variables, wanted):
    for name, value in variables.items():
        clean.setenv(name, value)
    assert spans.is_configured() is wanted


def test_a_protocol_that_is_not_spoken_is_refused(clean):
    clean.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError, match="4318"):
        spans.Spans("plates")
