"""Where a training can be watched."""

import sys

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.train.progress.tracking import MLFLOW_ENV, tracked

ROWS = [{"epoch": n, "loss": 1 / n, "iou": 0.5, "val_loss": 2 / n, "val_iou": n / 10} for n in (1, 2)]


def test_tensorboard_files_hold_the_course(tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    with tracked("name", {}, tmp_path) as trackers:
        for row in ROWS:
            trackers[0].log(row)
        # Where no mask tells an IoU, there is none.
        trackers[0].log({"epoch": 3, "loss": 0.3, "val_loss": 0.6})
    found = {}
    for path in tmp_path.glob("*/events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[path.parent.name, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found["train", "epoch_loss", 2] == 0.5
    assert found["validation", "epoch_iou", 1] == pytest.approx(0.1)
    assert found["validation", "epoch_loss", 3] == pytest.approx(0.6)
    assert len(found) == 10


@pytest.fixture
def mlflow(mlflow_server, monkeypatch):
    """The client, which keeps an address in this process and in the environment, asking a server."""
    import mlflow

    monkeypatch.setenv(MLFLOW_ENV, mlflow_server)
    mlflow.set_tracking_uri(mlflow_server)
    yield mlflow
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_mlflow_gets_settings_and_course(mlflow):
    with tracked("name", {"epochs": 2}, None) as trackers:
        for row in ROWS:
            trackers[0].log(row)
    with pytest.raises(KeyboardInterrupt), tracked("broken", {"epochs": 2}, None):
        raise KeyboardInterrupt
    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "defectline"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs["name"].info.status == "FINISHED"
    assert runs["broken"].info.status == "FAILED"
    assert runs["name"].data.params == {"epochs": "2"}
    course = client.get_metric_history(runs["name"].info.run_id, "val_iou")
    assert [(m.step, m.value) for m in course] == [(1, 0.1), (2, 0.2)]


@pytest.mark.slow
def test_mlflow_that_goes_away_costs_the_curves_alone(mlflow, capsys):
    with tracked("cut", {}, None) as trackers:
        trackers[0].log(ROWS[0])
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        trackers[0].log(ROWS[1])
        trackers[0].log(ROWS[1])
    said = capsys.readouterr().out
    assert said.count("MLflow takes no more values from epoch 2 on") == 1
    assert "MLflow was not told that this run is FINISHED" in said


def test_mlflow_that_is_missing_or_away_is_said(monkeypatch):
    import mlflow

    mlflow.set_tracking_uri(None)  # forgets the variable as well
    monkeypatch.setenv(MLFLOW_ENV, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SettingsError, match="cannot be used"), tracked("name", {}, None):
        pass
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SettingsError, match="not installed") as caught, tracked("name", {}, None):
        pass
    assert caught.value.fix == "Run `make setup`. Or unset MLFLOW_TRACKING_URI."
