"""Metrics for Prometheus."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from defectline.components.serve.monitoring.by_class import ByClass

STAGES = ("queue", "decode", "infer", "answer")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
AREA_RATIO = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1)


class Metrics:
    """In a registry of their own, without KServe's counters, which would stay at zero."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        shared: dict[str, Any] = {"namespace": "defectline", "registry": self.registry}
        self.requests = Counter(
            "requests",
            "Requests, by protocol and by the status of the answer (HTTP, or the name in gRPC).",
            ["protocol", "code"],
            **shared,
        )
        self.stages = Histogram(
            "stage_seconds",
            "Time of a request in the queue, in decoding, in the network, in making the answer.",
            ["stage"],
            buckets=SECONDS,
            **shared,
        )
        self.latency = Histogram(
            "request_seconds",
            "Time from the first byte to the answer, of requests that were answered.",
            ["protocol"],
            buckets=SECONDS,
            **shared,
        )
        self.verdicts = Counter("verdicts", "Pictures judged.", ["verdict"], **shared)
        self.area = Histogram(
            "defect_area_ratio",
            "Share of the picture that is defective, of pictures not called OK.",
            buckets=AREA_RATIO,
            **shared,
        )
        self.by_class = ByClass()
        self.registry.register(self.by_class)
        self.waiting = Gauge("queue_length", "Requests that wait for a thread.", **shared)
        self.running = Gauge("running", "Requests whose pictures are being judged.", **shared)
        self.ready = Gauge("ready", "1 where the model is ready for requests.", **shared)
        self.model = Gauge(
            "model_info", "1 for the version that serves.", ["name", "version", "precision"], **shared
        )
        self.guarantee = Gauge(
            "guarantee",
            "1 while what is promised of the rate holds, 0 where nothing is or frames drifted.",
            ["rate"],
            **shared,
        )
        self.switches = Counter(
            "model_switches", "Attempts to change to another version.", ["result"], **shared
        )
        self.unobserved = Counter("observations_dropped", "Answers that observers had no time for.", **shared)

    def serves(self, name: str, version: str, precision: str, classes: Sequence[str]) -> None:
        self.model.clear()
        self.model.labels(name, version, precision).set(1)
        self.by_class.serves(classes)
