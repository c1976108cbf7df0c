"""Drift of the last frames against the training pictures, as Prometheus sees it."""

import math
import re
import threading
import time

import numpy as np
import pytest
from endpoints import PREDICT, START_S, frame, metric, post, serving, v1_body, wait_for_metric
from networks import judge_model
from pictures import encode
from prometheus_client import CollectorRegistry, generate_latest

from defectline.components.common.bundle import copy_served, read_bundle
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.images.statistics import NAME, ImageStats, Statistics
from defectline.components.serve.monitoring.drift import LEAST_FRAMES, Drift, merge, stability


def _looks(number: int, seed: int, brightness: float = 110, contrast: float = 30, spread: float = 8):
    rng = np.random.default_rng(seed)
    bright = np.clip(rng.normal(brightness, spread, number), 0, 255)
    deep = np.clip(rng.normal(contrast, spread / 4, number), 0, 127)
    return [ImageStats(float(b), float(c), 0, False) for b, c in zip(bright, deep, strict=True)]


def _watch(looks, pictures: int = 200, window: int = 1000, seed: int = 1) -> Drift:
    drift = Drift(Statistics.of(_looks(pictures, seed)), window)
    for look in looks:
        drift.see(look.brightness, look.contrast, "NG" if look.defective else "OK")
    return drift


def test_the_index_is_that_of_its_formula():
    then, now = np.array([0, 100, 300, 0]), np.array([0, 500, 500, 0])
    a, b = np.array([1, 101, 301, 1]) / 404, np.array([2.5, 502.5, 502.5, 2.5]) / 1010
    assert stability(then, now) == pytest.approx(((b - a) * np.log(b / a)).sum())
    assert stability(then, then) == 0
    assert math.isnan(stability(np.array([10, 9]), now[:2]))
    assert math.isnan(stability(then, np.zeros(4, int)))


@pytest.mark.parametrize(
    ("counts", "starts"),
    [
        # What training has not seen is a part of its own, on both sides.
        ([0, 0, 50, 50, 0, 0], [0, 2, 3, 4]),
        # All in one bin cannot be divided.
        ([0, 100, 0], [0, 1, 2]),
        # A small rest joins its neighbour.
        ([30, 60, 60, 10], [0, 1, 2]),
        ([5, 5, 5, 5, 20], [0, 4]),
        ([200, 200, 200], [0, 1, 2]),
        ([0, 19, 1], [0, 1]),
        ([10, 10, 0], [0, 1, 2]),
    ],
)
def test_bins_are_merged_until_each_holds_enough(counts, starts):
    assert merge(np.array(counts)).tolist() == starts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.5, 2, 8, 20])
def test_frames_like_the_training_pictures_stay_below_a_tenth(seed, spread):
    drift = Drift(Statistics.of(_looks(400, seed, spread=spread)))
    for look in _looks(1000, seed + 100, spread=spread):
        drift.see(look.brightness, look.contrast, "OK")
    assert max(drift.shift().psi.values()) < 0.1


@pytest.mark.parametrize("pictures", [60, 200, 1000])
@pytest.mark.parametrize("by", [-16, 16])
def test_darker_and_brighter_frames_are_seen_in_brightness_alone(pictures, by):
    psi = _watch(_looks(1000, 7, brightness=110 + by), pictures).shift().psi
    assert psi["brightness"] > 0.25
    assert psi["contrast"] < 0.1


def test_blurred_frames_are_seen_in_contrast_alone():
    psi = _watch(_looks(1000, 7, contrast=24)).shift().psi
    assert psi["contrast"] > 0.25
    assert psi["brightness"] < 0.1


def test_a_line_whose_pictures_are_all_alike_still_tells_a_shift():
    same = [ImageStats(110.0, 30.0, 0, False)] * 500
    drift = Drift(Statistics.of(same))
    for _ in range(LEAST_FRAMES):
        drift.see(110.5, 30.5, "OK")
    assert drift.shift().psi == {"brightness": 0, "contrast": 0}
    for _ in range(LEAST_FRAMES):
        drift.see(118.0, 30.5, "OK")
    assert drift.shift().psi["brightness"] > 0.25


def test_only_the_last_frames_count():
    drift = _watch(_looks(1000, 7, brightness=200), window=300)
    assert drift.shift().psi["brightness"] > 0.25
    for look in _looks(300, 8):
        drift.see(look.brightness, look.contrast, "NG")
    found = drift.shift()
    assert found.frames == 300
    assert found.defect_rate == 1
    assert found.psi["brightness"] < 0.25


def test_too_few_frames_have_no_value():
    drift = _watch(_looks(LEAST_FRAMES - 1, 7))
    found = drift.shift()
    assert found.frames == LEAST_FRAMES - 1
    assert all(map(math.isnan, [*found.psi.values(), found.defect_rate]))
    drift.see(110, 30, "NG")
    assert drift.shift().defect_rate == 1 / LEAST_FRAMES
    assert not any(map(math.isnan, drift.shift().psi.values()))


def test_values_at_the_ends_are_counted():
    drift = Drift(Statistics.of(_looks(100, 1)))
    for _ in range(LEAST_FRAMES):
        drift.see(255.0, 127.5, "OK")
        drift.see(0.0, 0.0, "OK")
    assert min(drift.shift().psi.values()) > 1


def test_a_window_that_is_too_short():
    with pytest.raises(SettingsError, match="too short"):
        Drift(None, LEAST_FRAMES - 1)


def test_prometheus_reads_the_gauges():
    registry = CollectorRegistry()
    looks = _looks(100, 1)[:75] + [ImageStats(110.0, 30.0, 9, True)] * 25
    drift = Drift(Statistics.of(looks)).expose(registry)
    text = generate_latest(registry).decode()
    assert 'defectline_drift_psi{feature="brightness"} NaN' in text
    assert "defectline_defect_rate NaN" in text
    assert "defectline_training_defect_rate 0.25" in text
    assert "defectline_drift_frames 0.0" in text
    for look in _looks(400, 3):
        drift.see(look.brightness, look.contrast, "OK")
    assert registry.get_sample_value("defectline_drift_psi", {"feature": "contrast"}) < 0.25
    assert registry.get_sample_value("defectline_defect_rate") == 0
    assert registry.get_sample_value("defectline_drift_frames") == 400


def test_frames_that_look_otherwise_are_told_in_words():
    drift = Drift(Statistics.of(_looks(200, 1)), 400)
    for look in _looks(400, 3):
        drift.see(look.brightness, look.contrast, "OK")
    assert drift.tripped() == ""
    for look in _looks(400, 4):
        drift.see(min(look.brightness + 60, 255), look.contrast, "OK")
    assert re.fullmatch(r"brightness drifted \(PSI \d+\.\d\d\)", drift.tripped())


def test_several_threads_lose_no_frame():
    drift = Drift(Statistics.of(_looks(200, 1)), 500)
    looks = _looks(3000, 5)

    def see() -> None:
        for look in looks:
            drift.see(look.brightness, look.contrast, "NG")

    threads = [threading.Thread(target=see) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drift.shift().frames == 500
    assert drift.shift().defect_rate == 1
    assert [counts.sum() for counts in drift._counts] == [500, 500]


def test_what_is_served_brings_its_statistics_and_older_bundles_have_none(tmp_path):
    judged = judge_model(tmp_path / "one", pairs=24)
    copy_served(judged.folder, tmp_path / "older")
    older = Drift.of_model(tmp_path / "older")
    for look in _looks(300, 1):
        older.see(look.brightness, look.contrast, "NG")
    assert all(map(math.isnan, older.shift().psi.values()))
    assert older.shift().defect_rate == 1

    Statistics.of(_looks(200, 1)).write(judged.folder)
    copy_served(judged.folder, tmp_path / "served")
    assert (tmp_path / "served" / NAME).exists()
    read_bundle(tmp_path / "served")
    newer = Drift.of_model(tmp_path / "served")
    for look in _looks(300, 2):
        newer.see(look.brightness, look.contrast, "NG")
    assert newer.shift().psi["brightness"] < 0.25


def test_statistics_of_another_version_are_said_so(tmp_path):
    (tmp_path / NAME).write_text('{"pictures": 3, "sharpness": []}')
    with pytest.raises(BundleError, match=r"statistics\.json cannot be read"):
        Drift.of_model(tmp_path)


def test_gauges_follow_the_last_frames_whatever_threshold_a_caller_brings(model, tmp_path):
    psi = [f'defectline_drift_psi{{feature="{feature}"}}' for feature in ("brightness", "contrast")]
    with serving(model, tmp_path / "log", "--drift_window", "200") as running:
        assert metric(running.url, "defectline_drift_frames") == 0
        assert metric(running.url, "defectline_training_defect_rate") == 0.25
        assert all(math.isnan(metric(running.url, name)) for name in psi)

        def send(numbers: range, darker: int = 0, **parameters: float) -> None:
            for start in numbers[::50]:
                pictures = [encode(frame(number, darker)) for number in range(start, start + 50)]
                answered = post(running.url + PREDICT, v1_body(*pictures, **parameters))
                assert answered.status_code == 200, answered.text
                verdicts = [one["verdict"] for one in answered.json()["predictions"]]
                assert verdicts.count("NG") == (0 if parameters else 25)

        send(range(1000, 1200))
        wait_for_metric(running.url, "defectline_drift_frames", 200)
        assert all(metric(running.url, name) < 0.1 for name in psi)
        assert metric(running.url, "defectline_defect_rate") == 0.5
        # By this threshold nothing is NG; by the model's, half is.
        send(range(2000, 2200), darker=60, threshold=1.0)
        deadline = time.monotonic() + START_S
        while metric(running.url, psi[0]) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # A window that is full and in motion holds as many of both as it holds at rest.
        assert metric(running.url, "defectline_drift_frames") == 200
        assert metric(running.url, "defectline_defect_rate") == pytest.approx(0.5, abs=0.01)
