"""The runs of a store or of a Kubeflow Pipelines server, and how they compare."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import SettingsError
from defectline.components.common.files import replaced
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage
from defectline.components.common.storage.base import local_file
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.inventory import Run, read_runs, resolve

PLOTTED = {"iou": "IoU", "escape": "escape", "overkill": "overkill"}
"""Metrics with intervals → how they are called."""
COMMAND = "defectline runs"


class Row(NamedTuple):
    """A run, wherever it ran."""

    run: str
    name: str
    """What people call it: on a server its display name, which need not be its own."""
    began: str
    """ISO 8601, UTC."""
    minutes: float | None
    """From the first to the last sign of it; None while it is under way."""
    state: str
    """Of a store: `deployed`, `nothing_new`, `refused`, `failed`, `judged` (a fold of a cross-validation) or
    `unfinished`. Of a server KFP's own, which is SUCCEEDED for the first three alike."""
    reason: str
    version: str
    """The version that it judged; empty where it judged none, and of a server."""


def list_runs(store: Storage, limit: int, say: Say) -> list[Row]:
    """The last `limit` runs of a store, the newest first."""
    return [_row(run) for run in reversed(read_runs(store, say)[-limit:])]


def _row(run: Run) -> Row:
    ended = None if run.state == "unfinished" else _minutes(run.began, run.ended)
    return Row(
        run.id, run.id, run.began, ended, run.state, run.outcome.reason if run.outcome else "", run.judged
    )


def _minutes(began: str, ended: str) -> float:
    return round((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds() / 60, 1)


def list_cluster_runs(host: str, namespace: str, token: str, limit: int) -> list[Row]:
    """The last `limit` runs of the pipeline `defectline` on a server, the newest first.

    Raises SettingsError or ServingError for a server or token that the user can mend.
    """
    from defectline.pipeline.kfp_server.client import Server

    server = Server(host, namespace, token)
    pipeline_id = server.pipeline_id()
    found = server.pages(
        "list runs",
        server.runs.run_service_list_runs_with_http_info,
        "runs",
        namespace=namespace,
        sort_by="created_at desc",
    )
    return list(islice(_ours(found, pipeline_id), limit))


def _ours(runs: Iterator[Any], pipeline_id: str | None) -> Iterator[Row]:
    from defectline.pipeline.kfp_server.client import PIPELINE

    for run in runs:
        reference, spec = run.pipeline_version_reference, run.pipeline_spec or {}
        # Uploaded with settings for Kubernetes, the specification lies one level deeper.
        named = spec.get("pipeline_spec", spec).get("pipelineInfo", {}).get("name")
        if named == PIPELINE or (reference and pipeline_id and reference.pipeline_id == pipeline_id):
            yield _cluster_row(run)


def _cluster_row(run: Any) -> Row:
    began = run.created_at.astimezone(UTC).isoformat(timespec="seconds")
    # A server gives a run that has not ended a time before all others.
    ended = run.finished_at if run.finished_at and run.finished_at >= run.created_at else None
    minutes = _minutes(began, ended.astimezone(UTC).isoformat(timespec="seconds")) if ended else None
    reason = run.error.message if run.error and run.error.message else ""
    return Row(run.run_id, run.display_name, began, minutes, run.state or "PENDING", reason, "")


def find_judged(store: Storage, starts: Sequence[str], say: Say) -> list[Run]:
    """The runs of these names, or starts of names, that have metrics; without any the last five.

    Raises SettingsError for another name, and for a run that did not reach its gate.
    """
    runs = {run.id: run for run in read_runs(store, say)}
    judged = [run for run in runs.values() if run.metrics]
    if not starts:
        if judged:
            return judged[-5:]
        raise SettingsError(
            "No run has metrics yet.",
            got=f"{len(runs)} runs in {store.uri}",
            expected="a run that reached its gate",
            fix="Run the pipeline first, or correct --store.",
        )
    found = [runs[resolve(start, list(runs), "run", COMMAND)] for start in starts]
    for run in found:
        if not run.metrics:
            raise SettingsError(
                f"The run {run.id} has no metrics.",
                got=f"a run that ended as {run.state}",
                expected="a run that reached its gate",
                fix=f"`{COMMAND}` shows what became of each.",
            )
    return found


def compare(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What `metrics --json` prints. Pure."""
    return [
        {
            "run": run.id,
            "version": run.judged,
            "state": run.state,
            "test": run.metrics.get("test"),
            "test_intervals_95": run.metrics.get("test_intervals_95"),
            "validation": run.metrics.get("validation"),
            "champion": run.metrics.get("champion"),
            "champion_test": run.metrics.get("champion_test"),
            "gate": run.gate,
        }
        for run in runs
    ]


def plot(runs: Sequence[Run], file: Path) -> None:
    """Draw a bar a run for each of PLOTTED, with its 95 % interval, as PNG. Raises StoreError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(PLOTTED), 1.2 + 0.35 * len(runs)), layout="constrained")
    axes = figure.subplots(1, len(PLOTTED), sharey=True)
    for axis, (name, title) in zip(axes, PLOTTED.items(), strict=True):
        for row, run in enumerate(runs):
            value = (run.metrics.get("test") or {}).get(name)
            span = (run.metrics.get("test_intervals_95") or {}).get(name)
            if value is not None:
                axis.barh(row, value, color="#4878a8", height=0.6)
                axis.annotate(f"{value:.3f}", (value, row), (3, 6), textcoords="offset points", fontsize=7)
            if value is not None and span:
                # Rounding may put an end of the interval on the wrong side of the value.
                error = [[max(value - span[0], 0)], [max(span[1] - value, 0)]]
                axis.errorbar(value, row, xerr=error, color="black", capsize=3)
        axis.set_title(title)
        axis.set_xlim(0, 1.05)
    axes[0].set_yticks(range(len(runs)), [run.id for run in runs])
    axes[0].invert_yaxis()
    with local_file(file), replaced(file) as partial:
        figure.savefig(partial, format="png", dpi=150)


def fetch_report(store: Storage, start: str, output: Path | None, say: Say) -> Path:
    """The report of a run as a file: where it lies on this machine, else a copy, by default in this folder.

    Raises SettingsError where there is no such run or it has none.
    """
    runs = {run.id: run for run in read_runs(store, say)}
    run = runs[resolve(start, list(runs), "run", COMMAND)]
    if layout.REPORT not in run.files:
        raise SettingsError(
            f"The run {run.id} has no report.",
            got=f"a run that ended as {run.state}",
            expected="a run that reached its gate",
            fix=f"Look at {store.url(layout.run_key(run.id, layout.PICTURES))}, or at its log."
            if layout.PICTURES in run.files
            else f"`{COMMAND}` shows what became of each.",
        )
    key = layout.run_key(run.id, layout.REPORT)
    if output is None and isinstance(store, FolderStorage):
        return store.root / key
    path = (output or Path(f"report-{run.id}.html")).absolute()
    with local_file(path), replaced(path) as partial:
        store.download(key, partial)
    return path
