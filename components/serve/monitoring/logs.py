"""One JSON object a line on standard output: one for every request, and one for each other event.

They contain no pictures, masks, headers or query strings, which may be secret.
"""

import json
import logging
import re
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from defectline.components.serve.monitoring.metrics import Metrics

LOG = logging.getLogger("defectline.serve")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name != LOG.name:
            line["logger"] = record.name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Send the lines of all libraries the same way; of KServe and the HTTP server only warnings."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Lines())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    LOG.setLevel(logging.INFO)
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def log(event: str, level: int = logging.INFO, exc_info: Any = None, **fields: Any) -> None:
    LOG.log(level, event, extra={"fields": fields}, exc_info=exc_info)


_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass
class Trace:
    """What the log says of one request: filled on its way, written once at its end."""

    request_id: str
    call: str = ""
    """Method and path without its query, or the method's name over gRPC."""
    protocol: str = "none"
    begun: float = field(default_factory=time.perf_counter)
    traceparent: str = ""
    tracestate: str = ""
    """Headers of W3C's Trace Context, as the caller sent them."""
    code: str = ""
    """Of the error, if it ended with one."""
    version: str = ""
    received_bytes: int = 0
    verdicts: list[str] = field(default_factory=list)
    ms: dict[str, float] = field(default_factory=dict)
    """By stage."""
    stages: list[tuple[str, float, float]] = field(default_factory=list)
    """When each began and ended, one a picture, by `time.perf_counter`."""

    @property
    def trace_id(self) -> str:
        """Of the caller's trace, by which it can be joined with the log; "" where there is none."""
        found = _TRACEPARENT.fullmatch(self.traceparent)
        return found.group(1) if found else ""

    def add(self, stage: str, begun: float, ended: float) -> None:
        self.stages.append((stage, begun, ended))
        self.ms[stage] = round(self.ms.get(stage, 0) + (ended - begun) * 1000, 2)

    def end(self, status: int | str, metrics: Metrics) -> None:
        seconds = time.perf_counter() - self.begun
        metrics.requests.labels(self.protocol, str(status)).inc()
        if self.verdicts:
            metrics.latency.labels(self.protocol).observe(seconds)
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "call": self.call,
            "protocol": self.protocol,
            "status": status,
            "code": self.code,
            "model_version": self.version,
            "verdicts": self.verdicts,
            "received_bytes": self.received_bytes,
            "ms": {**self.ms, "total": round(seconds * 1000, 2)},
        }
        log("request", **{key: value for key, value in fields.items() if value not in ("", [], 0)})
