"""Frames for review: which are kept, and what a store that fails or hangs costs."""

import socket

import pytest
from endpoints import (
    PREDICT,
    START_S,
    expected,
    frame,
    graded,
    metric,
    near_and_far,
    post,
    serving,
    v1_body,
    wait_for_metric,
)
from pictures import encode

from defectline.components.common.review import frame_id
from defectline.components.common.storage import open_storage
from defectline.pipeline.catalog.review import list_frames


def test_a_frame_is_kept_with_what_the_model_itself_says(judged, model, tmp_path):
    near, far = near_and_far(judged)
    store = str(tmp_path / "store")
    options = ["--review", store, "--review_share", "0", "--review_margin", "0.05"]
    with serving(model, tmp_path / "log", *options) as running:
        # Neither what is near to the caller's threshold, nor what the caller wants to see, matters.
        score = expected(judged, far)["score"]
        address = running.url + PREDICT
        post(f"{address}?threshold={score}", far, "image/png")
        answered = post(f"{address}?threshold=0.05&mask=none&regions=false", near, "image/png").json()
        assert set(answered["predictions"][0]).isdisjoint({"mask_png", "regions"})
        running.process.terminate()
        assert running.process.wait(START_S) == 0
        assert running.lines("ended")
    (item,) = list_frames(open_storage(store), "plates", pytest.fail)
    assert item.frame.id == frame_id(near)
    assert item.frame.reason == "near_level"
    assert item.frame.threshold == judged.bundle.threshold
    assert item.frame.prediction == {**graded(judged, near), "model_version": judged.bundle.version}
    assert answered["predictions"][0]["defect_area_px"] != item.frame.prediction["defect_area_px"]


def test_what_is_not_from_the_line_is_neither_kept_nor_counted_in_drift(judged, model, tmp_path):
    near, far = near_and_far(judged)
    store = str(tmp_path / "store")
    options = ["--review", store, "--review_share", "1"]
    with serving(model, tmp_path / "log", *options) as running:
        address = running.url + PREDICT
        post(f"{address}?review=false", near, "image/png")
        post(address, v1_body(near, review=False))
        post(address, far, "image/png")
        # Observers see the answers in their order.
        wait_for_metric(running.url, "defectline_review_written_total", 1)
        assert metric(running.url, "defectline_drift_frames") == 1
        running.process.terminate()
        assert running.process.wait(START_S) == 0
    (item,) = list_frames(open_storage(store), "plates", pytest.fail)
    assert item.frame.id == frame_id(far)


def test_a_store_that_goes_away_costs_its_frames_alone(model, tmp_path):
    store = tmp_path / "mount" / "store"
    store.mkdir(parents=True)
    with serving(model, tmp_path / "log", "--review", str(store), "--review_share", "1") as running:

        def ask(number: int) -> None:
            answered = post(running.url + PREDICT, encode(frame(number)), "image/png")
            assert answered.status_code == 200, answered.text

        ask(0)
        wait_for_metric(running.url, "defectline_review_written_total", 1)
        store.parent.rename(tmp_path / "away")
        store.parent.write_text("where the volume should be")
        for number in range(1, 4):
            ask(number)
        wait_for_metric(running.url, "defectline_review_failed_total", 3)
        (said,) = [line for line in running.log.read_text().splitlines() if "are not kept" in line]
        assert '"level": "warning"' in said
        store.parent.unlink()
        (tmp_path / "away").rename(store.parent)
        ask(9)
        wait_for_metric(running.url, "defectline_review_written_total", 2)


def test_no_answer_waits_for_a_store_that_hangs_nor_does_the_end(model, tmp_path, monkeypatch):
    with socket.socket() as hanging:
        # It takes connections, and nothing ever comes.
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(100)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        options = ["--review", "s3://bucket/store", "--review_share", "1", "--drain_ms", "0"]
        with serving(model, tmp_path / "log", *options) as running:
            for start in range(0, 100, 50):
                pictures = [encode(frame(number)) for number in range(start, start + 50)]
                assert post(running.url + PREDICT, v1_body(*pictures)).status_code == 200
            # One is being written, 64 wait; an attempt that was given up meanwhile makes room for one.
            wait_for_metric(running.url, 'defectline_review_dropped_total{reason="queue_full"}', 20)
            assert metric(running.url, "defectline_review_written_total") == 0
            running.process.terminate()
            assert running.process.wait(START_S) == 0
            assert running.lines("ended")
