"""One fold with one seed: prepared, trained and judged by the steps of the pipeline, with its parameters."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.layout import fold_run
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.evaluate.collecting import read_counts
from defectline.components.evaluate.metrics import Count
from defectline.pipeline.crossval.naming import MODEL_NAME, settings_of
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.step_runner import StepRunner
from defectline.pipeline.workers import Worker


class Task(NamedTuple):
    parameters: Parameters
    """With the seed."""
    snapshot: str
    """Of the fold: its test split is judged."""

    @property
    def run(self) -> str:
        """What the store calls it; the same for the same pictures and settings."""
        return fold_run(self.snapshot, settings_of(self.parameters))


def judge(
    task: Task,
    store: Storage,
    work: Path,
    say: Say,
    worker: Worker | None = None,
    look: Callable[[Path, StepRunner], None] | None = None,
    again: bool = False,
) -> list[Count]:
    """The counts of the fold's test pictures, from the store where they are there already and not wanted
    `again`.

    `look` gets the folder of the sealed bundle before it is removed, and is only called where the fold was
    judged now. Raises what a step raises.
    """
    if not again and (counts := read_counts(store, task.run)):
        return counts
    # Two trials may try the same at the same time.
    folder, uri = Path(tempfile.mkdtemp(prefix=f"{task.run}-", dir=work)), task.parameters.store
    steps = StepRunner(task.parameters, folder, say, worker)
    dataset, model, bundle = folder / "dataset", folder / "model", folder / "bundle"
    steps.run("preprocess", uri, task.snapshot, dataset)
    steps.run("train", dataset, model, "--store", uri)
    named = ("--run", task.run, "--model-name", MODEL_NAME)
    steps.run("evaluate", uri, task.snapshot, model, bundle, folder / "report.html", *named)
    if look:
        look(bundle, steps)
    shutil.rmtree(folder)
    counts = read_counts(store, task.run)
    assert counts is not None
    return counts
