"""The runs of a store: how they ended, how they compare, and where their reports are."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.files import replaced
from defectline.components.common.records import Outcome, read_outcome
from defectline.components.common.reporting.step_record import find_reason, read_steps
from defectline.components.common.steps import Say
from defectline.components.common.storage import Object, Storage
from defectline.components.common.storage.base import local_file
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.reading import leave_out, resolve

PLOTTED = {"iou": "IoU", "escape": "escape", "overkill": "overkill"}
"""Metrics with intervals → how they are called."""
BY_CLASS = ("test_classes", "regions_found_as")
"""Metrics that only a run with several classes has."""
COMMAND = "defectline runs"


class Run(NamedTuple):
    id: str
    outcome: Outcome | None
    """None while it is under way, and permanently where it was killed together with its last step."""
    metrics: dict[str, Any]
    """The content of metrics.json; empty for a run that did not reach its gate."""
    gate: list[dict[str, Any]]
    began: str
    ended: str
    """When the first and the last of its files were written: ISO 8601, UTC."""
    files: tuple[str, ...]
    """Names below runs/<id>/."""
    trouble: str = ""
    """What a step of it failed by, where nothing wrote its outcome."""

    @property
    def is_fold(self) -> bool:
        """Whether it is a fold of a cross-validation."""
        return self.id.startswith(layout.CROSSVAL)

    @property
    def state(self) -> str:
        if self.outcome:
            return self.outcome.state
        return "judged" if self.is_fold and self.metrics else "unfinished"

    @property
    def reason(self) -> str:
        """Why it ended so; may be empty."""
        return self.outcome.reason if self.outcome else self.trouble

    @property
    def judged(self) -> str:
        """The version that it judged, or empty."""
        return str(self.metrics.get("version", ""))


class RunRow(NamedTuple):
    """What `runs` shows of a run, wherever it ran."""

    run: str
    name: str
    """What people call it: on a server its display name, which need not be its own."""
    began: str
    """ISO 8601, UTC."""
    minutes: float | None
    """From the first to the last sign of it; None while it is under way."""
    state: str
    """Of a store: `deployed`, `nothing_new`, `kept`, `refused`, `failed`, `judged` (a fold of a
    cross-validation) or `unfinished`. Of a server KFP's own, which is SUCCEEDED for the first four alike."""
    reason: str
    version: str
    """The version that it judged; empty where it judged none, and of a server."""


def read_runs(store: Storage, say: Say) -> list[Run]:
    """Every run, the oldest first; `say` gets what cannot be read and is left out."""
    found: dict[str, list[Object]] = defaultdict(list)
    for one in store.list(layout.RUNS):
        _, run, *rest = one.key.split("/")
        if rest:
            found[run].append(one)
    runs = [_read_run(store, run, files, say) for run, files in found.items()]
    return sorted(runs, key=lambda run: (run.began, run.id))


def _read_run(store: Storage, run: str, files: Sequence[Object], say: Say) -> Run:
    times = sorted(one.modified for one in files)
    names = tuple(sorted(one.key.removeprefix(layout.run_key(run, "")) for one in files))
    outcome = None
    if layout.OUTCOME in names:
        try:
            outcome = read_outcome(store, run)
        except StoreError:
            leave_out(store, layout.run_key(run, layout.OUTCOME), say)
    metrics = _json(store, run, layout.METRICS, {}, say) if layout.METRICS in names else {}
    gate = _json(store, run, layout.GATE, [], say) if layout.GATE in names else []
    trouble = ""
    if outcome is None and any(name.startswith(layout.STEPS) for name in names):
        found = find_reason(read_steps(store, run))
        # One that runs has not failed yet.
        trouble = found.text if found and found.record.state != "running" else ""
    return Run(run, outcome, metrics, gate, times[0], times[-1], names, trouble)


def _json(store: Storage, run: str, name: str, otherwise: Any, say: Say) -> Any:
    key = layout.run_key(run, name)
    try:
        found = json.loads(store.read(key))
    except (KeyError, ValueError):
        found = None
    if isinstance(found, type(otherwise)):
        return found
    leave_out(store, key, say)
    return otherwise


def list_runs(store: Storage, limit: int, say: Say) -> list[RunRow]:
    """The last `limit` runs of a store, the newest first."""
    return [_row(run) for run in reversed(without_folds(read_runs(store, say))[-limit:])]


def without_folds(runs: Sequence[Run]) -> Sequence[Run]:
    """Those that judge a model, for a tune makes hundreds that judge settings; all where there are no others.
    Pure."""
    return [run for run in runs if not run.is_fold] or runs


def _row(run: Run) -> RunRow:
    began, ended = (datetime.fromisoformat(time) for time in (run.began, run.ended))
    took = None if run.state == "unfinished" else minutes(began, ended)
    return RunRow(run.id, run.id, run.began, took, run.state, run.reason, run.judged)


def minutes(began: datetime, ended: datetime) -> float:
    """To one digit behind the point. Pure."""
    return round((ended - began).total_seconds() / 60, 1)


def find_judged(store: Storage, starts: Sequence[str], say: Say) -> list[Run]:
    """The runs of these names, or starts of names, that have metrics; without any the last five.

    Raises SettingsError for another name, and for a run that did not reach its gate.
    """
    runs = {run.id: run for run in read_runs(store, say)}
    judged = without_folds([run for run in runs.values() if run.metrics])
    if not starts:
        if judged:
            return [*judged[-5:]]
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
            # Of several classes.
            **{name: run.metrics[name] for name in BY_CLASS if name in run.metrics},
        }
        for run in runs
    ]


def plot(runs: Sequence[Run], file: Path) -> None:
    """Draw a bar a run for each of PLOTTED, with its 95 % interval, as PNG. Raises SettingsError for
    another kind of file, and StoreError."""
    if file.suffix.lower() != ".png":
        raise SettingsError(
            f"{file} cannot be drawn.",
            got=file.suffix or "a name without .png",
            expected="a file called .png",
            fix=f"Write --plot {file.with_suffix('.png')}.",
        )
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
    """The report of a run as a file: where it is on this machine, else a copy, by default in this folder.

    An empty `start` stands for the latest run with a report. Raises SettingsError where there is no such run
    or it has none.
    """
    runs = {run.id: run for run in read_runs(store, say)}
    reported = [run.id for run in without_folds([*runs.values()]) if layout.REPORT in run.files]
    if not start:
        if not reported:
            raise SettingsError(
                "No run has a report yet.",
                got=f"{len(runs)} runs in {store.uri}",
                expected="a run that reached its gate",
                fix="Run the pipeline first, or correct --store.",
            )
        start = reported[-1]
        say(f"run {start}, the latest with a report")
    run = runs[resolve(start, list(runs), "run", COMMAND)]
    if layout.REPORT not in run.files:
        raise SettingsError(
            f"The run {run.id} has no report.",
            got=f"a run that ended as {run.state}" + (f": {run.reason}" if run.reason else ""),
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
