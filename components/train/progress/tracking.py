"""Where the course of a training can be watched: TensorBoard and MLflow."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

import keras

from defectline.components.common.errors import SettingsError
from defectline.components.common.installing import how_to_install
from defectline.components.common.steps import say
from defectline.components.common.storage.base import redact

MLFLOW_ENV = "MLFLOW_TRACKING_URI"


class Tracker(Protocol):
    def log(self, row: Mapping[str, float]) -> None:
        """Take the values of an epoch; those before a checkpoint come again when a training goes on."""


class TensorBoard:
    """Event files below `folder`, as scalars of two runs: train and validation."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self.writers = {
            prefix: tf.summary.create_file_writer(str(folder / name))
            for prefix, name in (("", "train"), ("val_", "validation"))
        }
        # tf.summary.scalar would need the package tensorboard, which only a reader needs.
        self.kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)

    def log(self, row: Mapping[str, float]) -> None:
        import tensorflow as tf

        for prefix, writer in self.writers.items():
            with writer.as_default(step=int(row["epoch"])):
                # There is no IoU where no mask tells it.
                for name in ("loss", "iou"):
                    if prefix + name in row:
                        value = tf.constant(row[prefix + name], tf.float32)
                        tf.summary.write(f"epoch_{name}", value, metadata=self.kind)
            writer.flush()


class MLflow:
    """The current run of MLflow. A server that stops answering costs the curves, never the training."""

    def __init__(self, mlflow: ModuleType):
        self.mlflow, self.lost = mlflow, False

    def log(self, row: Mapping[str, float]) -> None:
        if self.lost:
            return
        try:
            values = {name: float(value) for name, value in row.items() if name != "epoch"}
            self.mlflow.log_metrics(values, step=int(row["epoch"]))
        except self.mlflow.MlflowException as error:
            self.lost = True
            say(f"train: MLflow takes no more values from epoch {row['epoch']} on ({redact(error)})")

    def end(self, status: str) -> None:
        try:
            self.mlflow.end_run(status)
        except self.mlflow.MlflowException as error:
            say(f"train: MLflow was not told that this run is {status} ({redact(error)})")


@contextmanager
def tracked(name: str, settings: Mapping[str, object], logs: Path | None) -> Iterator[list[Tracker]]:
    """The trackers that are wanted here: TensorBoard where there is a folder `logs`, MLflow where
    MLFLOW_TRACKING_URI is set, with a run called `name` that fails with the block.

    Raises SettingsError where MLflow is not installed or does not answer.
    """
    trackers: list[Tracker] = []
    if logs and keras.backend.backend() == "tensorflow":
        trackers.append(TensorBoard(logs))
    if not os.environ.get(MLFLOW_ENV):
        yield trackers
        return
    # Its own defaults try for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        import mlflow
    except ImportError as error:
        raise SettingsError(
            f"{MLFLOW_ENV} is set, but MLflow is not installed.",
            got=str(error),
            expected="the package mlflow-skinny or mlflow",
            fix=f"{how_to_install('mlflow')} Or unset {MLFLOW_ENV}.",
        ) from error
    try:
        if not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            mlflow.set_experiment("defectline")
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(settings))
    except mlflow.MlflowException as error:
        raise SettingsError(
            "MLflow cannot be used.",
            got=redact(error),
            expected=f"a tracking server at {MLFLOW_ENV}",
            fix=f"Start it, correct {MLFLOW_ENV}, or unset it.",
        ) from error
    tracker, status = MLflow(mlflow), "FAILED"
    try:
        yield [*trackers, tracker]
        status = "FINISHED"
    finally:
        tracker.end(status)
