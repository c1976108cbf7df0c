"""Observers see each answer after it was sent."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from bundles import make_bundle

from defectline.components.common.bundle import Bundle
from defectline.components.common.inference.inspection import Maps
from defectline.components.serve.monitoring.metrics import Metrics
from defectline.components.serve.monitoring.observers import HELD_BYTES, Observation, Observers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "one")


@pytest.fixture
def observe(bundle) -> Callable[..., Observation]:
    def observe(number: int = 0, image: int = 10) -> Observation:
        pixels, maps = np.zeros((image, image, 1), np.uint8), Maps(np.zeros((image, image), np.uint16))
        found = {"verdict": "OK", "score": 0.0}
        return Observation(b"", pixels, maps, found, pixels[..., 0], str(number), "grpc", bundle, 0.5)

    return observe


def test_observers_see_every_answer_and_one_that_fails_stops_nobody(observe):
    observers, seen = Observers(Metrics()), []

    def fails(_: Observation) -> None:
        raise RuntimeError("disk full")

    observers.add(fails)
    observers.add(lambda observation: seen.append(observation.request_id))
    for number in range(20):
        observers.notify(observe(number))
    observers.close()
    assert seen == [str(number) for number in range(20)]


def test_answers_that_observers_have_no_time_for_are_counted(observe):
    metrics, release = Metrics(), threading.Event()
    observers = Observers(metrics)
    observers.add(lambda _: release.wait(30))
    side = int((HELD_BYTES / 8) ** 0.5)
    for number in range(5):
        observers.notify(observe(number, side))
    release.set()
    observers.close()
    # Each holds a picture, its score map and a mask: two fit.
    assert metrics.registry.get_sample_value("defectline_observations_dropped_total") == 3
