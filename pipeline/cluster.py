"""Start runs and keep schedules on a Kubeflow Pipelines server."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import kfp_server_api as api
import yaml

from defectline.components.common.errors import ServingError, SettingsError
from defectline.pipeline.cron import normalise_cron, times
from defectline.pipeline.kfp_server import PIPELINE, Package, Server

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})

MAX_POLL_S = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunResult:
    """A run as it was last seen; `state` is KFP's, such as PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED."""

    run_id: str
    url: str
    state: str


@dataclass(frozen=True)
class Schedule:
    """A recurring run.

    `cron` has six fields, seconds first, or is empty where somebody made a periodic one by hand.
    `created` is False where nothing had to be changed. `next_times` are the next three starts, in UTC:
    KFP reads cron in its controller's time zone, which is UTC unless CRON_SCHEDULE_TIMEZONE is set there.
    They are empty for a schedule that is switched off.
    """

    id: str
    name: str
    cron: str
    created: bool
    enabled: bool
    next_times: tuple[datetime, ...]


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
) -> RunResult:
    """Create a run of a compiled pipeline, and with `wait` follow it to its end.

    Waiting asks every `poll_s` seconds, ever less often down to every 15 s, and says each change of a
    step's state on one line. A server that falls silent meanwhile is asked again until `timeout_s`. A run
    that fails or is cancelled is no error here: its state is returned.

    Raises SettingsError or ServingError for a package, parameter, address or token that the user can
    mend, for a server that does not answer, and when the run has not ended after `timeout_s` seconds.
    """
    compiled = _read_package(package, parameters)
    server = Server(host, namespace, token)
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
        state = _wait(server, run.run_id, url, compiled.steps, timeout_s=timeout_s, poll_s=poll_s, say=say)
    return RunResult(run.run_id, url, state)


def apply_schedule(
    package: Path,
    *,
    host: str,
    name: str,
    cron: str,
    parameters: dict[str, object],
    experiment: str = "defectline",
    namespace: str = "",
    token: str = "",
) -> Schedule:
    """Have one schedule of this name that runs this package with these parameters at these times.

    The package becomes a version of the pipeline `defectline`, named by the first 12 hex digits of its
    SHA-256. Missed times are not caught up and never do two runs overlap. Where a schedule of that name
    differs, or is switched off, its successor is created before it is deleted: KFP cannot change one,
    and this way a failure leaves at least one behind. Running the same command again mends the rest.

    Raises SettingsError or ServingError, as `submit` does, and SettingsError for an unusable `cron`.
    """
    cron = normalise_cron(cron)
    compiled = _read_package(package, parameters)
    server = Server(host, namespace, token)
    pipeline_id = server.pipeline_id() or server.create_pipeline()
    wanted = api.V2beta1RecurringRun(
        display_name=name,
        experiment_id=server.experiment_id(experiment),
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=pipeline_id, pipeline_version_id=server.version_id(pipeline_id, compiled)
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,
    )
    present = [job for job in server.jobs(pipeline_id) if job.display_name == name]
    same = next((job for job in present if _traits(job) == _traits(wanted)), None)
    current = same or server.ask(
        "create the schedule",
        server.recurring_runs.recurring_run_service_create_recurring_run_with_http_info,
        wanted,
    )
    for job in present:
        if job.recurring_run_id != current.recurring_run_id:
            server.delete_job(job)
    return _schedule(current, created=same is None)


def list_schedules(*, host: str, namespace: str = "", token: str = "") -> list[Schedule]:
    """The schedules of the pipeline `defectline`, by name."""
    server = Server(host, namespace, token)
    jobs = server.jobs(server.pipeline_id())
    return sorted((_schedule(job, created=False) for job in jobs), key=lambda schedule: schedule.name)


def delete_schedule(*, host: str, name: str, namespace: str = "", token: str = "") -> None:
    """Delete every schedule of that name of the pipeline `defectline`; SettingsError if there is none."""
    server = Server(host, namespace, token)
    jobs = server.jobs(server.pipeline_id())
    named = [job for job in jobs if job.display_name == name]
    if not named:
        raise SettingsError(
            f"there is no schedule named {name}",
            got=", ".join(sorted({job.display_name for job in jobs})) or "no schedule at all",
            expected=f"a schedule of the pipeline {PIPELINE}",
            fix="name one that `defectline schedule list` shows",
        )
    for job in named:
        server.delete_job(job)


def _read_package(path: Path, parameters: dict[str, object]) -> Package:
    """A compiled pipeline whose parameters fit, read before anything is changed on the server."""
    try:
        content = path.read_bytes()
        documents = list(yaml.safe_load_all(content))
        pipeline = documents[0]
        root, components = pipeline["root"], pipeline["components"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, IndexError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} is no compiled pipeline",
            got=str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}",
            expected="a YAML file written by `defectline compile`",
            fix=f"write it with `defectline compile -o {path}`",
        ) from None
    _check_parameters(root.get("inputDefinitions", {}).get("parameters", {}), parameters)
    spec = {"pipeline_spec": pipeline, "platform_spec": documents[1]} if len(documents) > 1 else pipeline
    return Package(path, spec, hashlib.sha256(content).hexdigest()[:12], _step_names(root, components))


def _check_parameters(declared: dict[str, dict[str, Any]], given: dict[str, object]) -> None:
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise SettingsError(
            "the pipeline does not have all of these parameters",
            got=", ".join(unknown),
            expected=", ".join(sorted(declared)) or "no parameter",
            fix="correct or remove what the pipeline does not have",
        )
    optional = {
        name for name, about in declared.items() if "defaultValue" in about or about.get("isOptional")
    }
    missing = sorted(declared.keys() - optional - given.keys())
    if missing:
        raise SettingsError(
            "the pipeline needs more parameters",
            got=", ".join(sorted(given)) or "no parameter",
            expected=f"also {', '.join(missing)}",
            fix=f"give {' and '.join(missing)}",
        )


def _step_names(root: dict[str, Any], components: dict[str, Any]) -> frozenset[str]:
    """The tasks that run a container; a run's details also list drivers and the groups around them."""
    return frozenset(
        name
        for part in (root, *components.values())
        for name, task in part.get("dag", {}).get("tasks", {}).items()
        if "executorLabel" in components[task["componentRef"]["name"]]
    )


def _wait(
    server: Server,
    run_id: str,
    url: str,
    steps: frozenset[str],
    *,
    timeout_s: float,
    poll_s: float,
    say: Say,
) -> str:
    deadline = time.monotonic() + timeout_s
    seen: dict[str, str] = {}
    last = ""
    while True:
        try:
            run = server.ask("read the run", server.runs.run_service_get_run_with_http_info, run_id)
        except ServingError as error:
            # The run goes on without us, so neither a restarted server nor a lost tunnel ends the wait.
            if last != error.what:
                say(f"{error.what} ({error.got}): asking again")
            last = error.what
        else:
            last = f"state {run.state}"
            _say_changes(run, steps, seen, say)
            if run.state in FINAL_STATES:
                return run.state
        left = deadline - time.monotonic()
        if left <= 0:
            raise ServingError(
                f"the run {run_id} did not end in time",
                got=f"{last} after {timeout_s:,.0f} s",
                expected=" or ".join(sorted(FINAL_STATES)),
                fix=f"watch it at {url}, it goes on by itself, or wait for longer",
            )
        time.sleep(min(poll_s, left))
        poll_s = min(poll_s * 1.5, MAX_POLL_S)


def _say_changes(run: api.V2beta1Run, steps: frozenset[str], seen: dict[str, str], say: Say) -> None:
    """Say what differs from `seen`, by task id, and remember it there."""
    details = run.run_details.task_details if run.run_details else None
    tasks = [task for task in details or [] if task.display_name in steps]
    for task in sorted(tasks, key=lambda task: str(task.create_time)):
        if task.state and seen.get(task.task_id) != task.state:
            seen[task.task_id] = task.state
            reason = f", {task.error.message}" if task.error and task.error.message else ""
            say(f"{task.display_name}: {task.state}{reason}")
    if run.state and seen.get("") != run.state:
        seen[""] = run.state
        say(f"run: {run.state}")


def _traits(job: api.V2beta1RecurringRun) -> tuple[object, ...]:
    """All that makes two schedules of a name the same; the server does not tell `no_catchup`."""
    return (
        _cron(job),
        job.runtime_config.parameters if job.runtime_config else {},
        job.pipeline_version_reference.pipeline_version_id,
        job.experiment_id,
        job.mode,
        str(job.max_concurrency),
    )


def _cron(job: api.V2beta1RecurringRun) -> str:
    trigger = job.trigger
    return trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""


def _schedule(job: api.V2beta1RecurringRun, *, created: bool) -> Schedule:
    cron, enabled = _cron(job), job.mode == api.RecurringRunMode.ENABLE
    starts: tuple[datetime, ...] = ()
    if cron and enabled:
        starts = tuple(islice(times(cron, after=datetime.now(UTC)), 3))
    return Schedule(job.recurring_run_id, job.display_name, cron, created, enabled, starts)
