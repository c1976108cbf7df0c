"""Start runs on a Kubeflow Pipelines server, follow them, and list them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import kfp_server_api as api

from defectline.components.common.errors import ServingError
from defectline.components.common.steps import Say
from defectline.pipeline import PIPELINE
from defectline.pipeline.catalog.runs import RunRow, minutes
from defectline.pipeline.kfp_server.client import Server
from defectline.pipeline.kfp_server.package import read_package

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})

MAX_POLL_S = 15.0


@dataclass(frozen=True)
class RunResult:
    """A run as it was last seen; `state` is KFP's, such as PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED."""

    run_id: str
    url: str
    state: str


class Step(NamedTuple):
    """A task of a run that runs a container, as it was last seen."""

    id: str
    name: str
    state: str
    """KFP's own, such as RUNNING or SUCCEEDED."""
    minutes: float | None
    """None before it has begun."""
    error: str


Watch = Callable[[str, Sequence[Step]], None]
"""Gets the run's state and its steps, in the order in which they began, at each look."""


def submit(
    package: Path,
    *,
    host: str,
    name: str,
    parameters: dict[str, object],
    experiment: str = "defectline",
    namespace: str = "",
    token: str = "",
    wait: bool = False,
    timeout_s: float = 86_400.0,
    poll_s: float = 2.0,
    say: Say = print,
    watch: Watch | None = None,
) -> RunResult:
    """Create a run of a compiled pipeline, and with `wait` follow it to its end.

    Waiting asks every `poll_s` seconds, ever less often down to every 15 s. `watch` gets what it saw;
    without one, each change of a step's state is said on one line. A server that falls silent meanwhile
    is asked again until `timeout_s`. A run that fails or is cancelled is not an error here: its state is
    returned.

    Raises SettingsError or ServingError for a package, parameter, address or token that the user can
    fix, for a server that does not answer, and when the run has not ended after `timeout_s` seconds.
    """
    compiled = read_package(package, parameters)
    server = Server(host, namespace, token)
    if server.remark:
        say(server.remark)
    run = server.ask(
        "create the run",
        server.runs.run_service_create_run_with_http_info,
        api.V2beta1Run(
            display_name=name,
            experiment_id=server.experiment_id(experiment),
            pipeline_spec=compiled.spec,
            runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
        ),
    )
    url = f"{server.host}/#/runs/details/{run.run_id}"
    say(f"run {name}: {url}")
    state = run.state or "PENDING"
    if wait:
        watch = watch or _sayer(say)
        state = _wait(
            server, run.run_id, url, compiled.steps, timeout_s=timeout_s, poll_s=poll_s, say=say, watch=watch
        )
    return RunResult(run.run_id, url, state)


def _wait(
    server: Server,
    run_id: str,
    url: str,
    steps: frozenset[str],
    *,
    timeout_s: float,
    poll_s: float,
    say: Say,
    watch: Watch,
) -> str:
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        try:
            run = server.ask("read the run", server.runs.run_service_get_run_with_http_info, run_id)
        except ServingError as error:
            # The run goes on without us, so neither a restarted server nor a lost tunnel ends the wait.
            if last != error.what:
                say(f"{error.what} Got {error.got}; asking again.")
            last = error.what
        else:
            last = f"state {run.state}"
            watch(run.state or "PENDING", _read_steps(run, steps))
            if run.state in FINAL_STATES:
                return run.state
        left = deadline - time.monotonic()
        if left <= 0:
            raise ServingError(
                f"The run {run_id} did not end in time.",
                got=f"{last} after {timeout_s:,.0f} s",
                expected=" or ".join(sorted(FINAL_STATES)),
                fix=f"Watch it at {url}: it goes on by itself. Or wait for longer.",
            )
        time.sleep(min(poll_s, left))
        poll_s = min(poll_s * 1.5, MAX_POLL_S)


def _read_steps(run: api.V2beta1Run, names: frozenset[str]) -> list[Step]:
    details = run.run_details.task_details if run.run_details else None
    tasks = [task for task in details or [] if task.display_name in names and task.state]
    return [
        Step(
            task.task_id,
            task.display_name,
            task.state,
            _minutes_so_far(task.start_time or task.create_time, task.end_time),
            (task.error.message or "") if task.error else "",
        )
        for task in sorted(tasks, key=lambda task: str(task.create_time))
    ]


def _minutes_so_far(began: datetime | None, ended: datetime | None) -> float | None:
    return minutes(began, ended or datetime.now(UTC)) if began else None


def _sayer(say: Say) -> Watch:
    """Says what differs from the look before, a line a change."""
    seen: dict[str, str] = {}

    def watch(state: str, steps: Sequence[Step]) -> None:
        for step in steps:
            if seen.get(step.id) != step.state:
                seen[step.id] = step.state
                say(f"{step.name}: {step.state}" + (f", {step.error}" if step.error else ""))
        if seen.get("") != state:
            seen[""] = state
            say(f"run: {state}")

    return watch


def list_cluster_runs(host: str, namespace: str, token: str, limit: int) -> list[RunRow]:
    """The last `limit` runs of the pipeline `defectline` on a server, the newest first.

    Raises SettingsError or ServingError for a server or token that the user can fix.
    """
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


def _ours(runs: Iterator[Any], pipeline_id: str | None) -> Iterator[RunRow]:
    for run in runs:
        reference, spec = run.pipeline_version_reference, run.pipeline_spec or {}
        # Uploaded with settings for Kubernetes, the specification lies one level deeper.
        named = spec.get("pipeline_spec", spec).get("pipelineInfo", {}).get("name")
        if named == PIPELINE or (reference and pipeline_id and reference.pipeline_id == pipeline_id):
            yield _row(run)


def _row(run: Any) -> RunRow:
    # A server gives a run that has not ended a time before all others.
    ended = run.finished_at if run.finished_at and run.finished_at >= run.created_at else None
    return RunRow(
        run.run_id,
        run.display_name,
        run.created_at.astimezone(UTC).isoformat(timespec="seconds"),
        minutes(run.created_at, ended) if ended else None,
        run.state or "PENDING",
        run.error.message if run.error and run.error.message else "",
        "",
    )
