"""OpenTelemetry: a span for each request, with one below it for each stage, sent to where OpenTelemetry's
own variables say: https://opentelemetry.io/docs/specs/otel/protocol/exporter/."""

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from defectline.components.common.errors import SettingsError
from defectline.components.serve.monitoring.logs import Trace

if TYPE_CHECKING:
    pass

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "OTEL_SERVICE_NAME"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"
END_S = 2.0
"""Time to send what waits when the server stops."""


def is_configured() -> bool:
    """Whether there is somewhere to send spans to, and nobody has switched that off."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    return not off and any(os.environ.get(name) for name in ENDPOINTS)


class Spans:
    """Sends spans in batches, from a thread of its own; what cannot be sent is dropped, and said in the log.

    Sampling is the caller's where a request has a `traceparent`; else it is as OTEL_TRACES_SAMPLER says, by
    default all of them.
    """

    def __init__(self, model: str):
        """Raises SettingsError where another protocol is asked for."""
        for name in PROTOCOLS:
            if (protocol := os.environ.get(name, SPOKEN)) != SPOKEN:
                raise SettingsError(
                    "Spans are sent over HTTP alone.",
                    got=f"{name}={protocol}",
                    expected=SPOKEN,
                    fix=f"Leave {name} out, and name the collector's port for HTTP, 4318 by default.",
                )
        # Most servers send none, and start sooner without these.
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # The SDK takes the name of the service, and more, from the environment.
        named = {} if os.environ.get(SERVICE) else {"service.name": f"defectline-{model}"}
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create(named), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("defectline.serve")
        self._read, self._in_span = TraceContextTextMapPropagator().extract, trace.set_span_in_context
        self._kind, self._error = trace.SpanKind.SERVER, trace.Status(trace.StatusCode.ERROR)

    def send(self, request: Trace, status: int | str) -> None:
        """Make the spans of a request that has just ended; waits for nothing."""
        carrier = {"traceparent": request.traceparent, "tracestate": request.tracestate}
        parent = self._read({name: value for name, value in carrier.items() if value})
        now, wall = time.perf_counter(), time.time_ns()

        def at(moment: float) -> int:
            return wall - round((now - moment) * 1e9)

        told: dict[str, Any] = {
            "request.id": request.request_id,
            "defectline.protocol": request.protocol,
            "defectline.model_version": request.version,
            "defectline.verdicts": request.verdicts,
            "error.type": request.code,
        }
        attributes = {key: value for key, value in told.items() if value}
        if isinstance(status, int):
            attributes["http.response.status_code"] = status
        span = self._tracer.start_span(
            request.call, parent, self._kind, attributes=attributes, start_time=at(request.begun)
        )
        if request.code:
            span.set_status(self._error)
        below = self._in_span(span, parent)
        for stage, begun, ended in request.stages:
            self._tracer.start_span(stage, below, start_time=at(begun)).end(at(ended))
        span.end(wall)

    def close(self) -> None:
        """Send what waits, for a short time."""
        # The exporter goes on trying for ten seconds where no collector answers.
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(END_S)
