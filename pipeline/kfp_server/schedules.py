"""Keep recurring runs on a Kubeflow Pipelines server."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import kfp_server_api as api

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.steps import Say
from defectline.pipeline import PIPELINE
from defectline.pipeline.kfp_server.client import Server
from defectline.pipeline.kfp_server.cron import normalise_cron, read_as_kfp, times
from defectline.pipeline.kfp_server.package import read_package

SETTLE_S = 5.0
"""How long a schedule that was switched off may take to hand its last run to the server."""


@dataclass(frozen=True)
class Schedule:
    """A recurring run.

    `cron` has six fields, seconds first. Of a schedule that was made by hand it may be another text that KFP
    reads, such as `@every 1h`, or empty for a periodic one: the next times of these are not known.
    `created` is False where nothing had to be changed. `follows_latest` tells that it runs the newest
    version of the pipeline at each time, instead of one. `next_times` are the next three starts, in the time
    zone that was asked for: KFP reads cron in its controller's, which is UTC unless
    CRON_SCHEDULE_TIMEZONE is set there, and does not tell which that is. They are also empty for a schedule
    that is switched off. `leftover` tells that a newer one has its name: it is off, and stays until its last
    run has ended.
    """

    id: str
    name: str
    cron: str
    created: bool
    enabled: bool
    follows_latest: bool
    next_times: tuple[datetime, ...]
    leftover: bool = False


def read_zone(name: str) -> tzinfo:
    """A time zone by its IANA name, such as Europe/Berlin. Raises SettingsError for an unknown one."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise SettingsError(
            f"There is no time zone {name}.",
            got=name,
            expected="a name such as Europe/Berlin, Asia/Tokyo or UTC",
            fix="Write what CRON_SCHEDULE_TIMEZONE says at KFP's controller.",
        ) from None


def apply_schedule(
    package: Path,
    *,
    host: str,
    name: str,
    cron: str,
    parameters: dict[str, object],
    latest: bool = False,
    zone: tzinfo = UTC,
    experiment: str = "defectline",
    namespace: str = "",
    token: str = "",
    say: Say = print,
) -> Schedule:
    """Have one schedule of this name that runs this package with these parameters at these times.

    The package becomes a version of the pipeline `defectline`, named by the first 12 hex digits of its
    SHA-256. With `latest` the schedule runs whatever version is the newest at each time; a server older
    than that is safe on gets this version, and `say` hears of it, and of other schedules that will run
    this package because they follow the newest. Missed times are not caught up. Two runs of a recurring run
    do not overlap; one of an old schedule may still be under way when its successor starts its first. Where
    a schedule of that name differs, its successor is created before it is removed: KFP cannot change one,
    and this way a failure leaves at least one behind. Running the same command again does the rest.

    A recurring run owns the workflows of its runs: deleting it would kill one that is under way, without its
    last step. So it is switched off, and stays as a leftover until a later call finds its runs ended; `say`
    hears of it.

    Raises SettingsError or ServingError, as `submit` does, and SettingsError for an unusable `cron`
    and, with `latest`, for a package that is older than the newest version.
    """
    cron = normalise_cron(cron)
    compiled = read_package(package, parameters)
    server = Server(host, namespace, token)
    pipeline_id = server.pipeline_id() or server.create_pipeline()
    version_id: str | None = server.version_id(pipeline_id, compiled)
    if server.remark:
        say(server.remark + (": the schedule stays at this version" if latest else ""))
    if latest and not server.too_old:
        server.check_newest(pipeline_id, compiled)
        version_id = None
    wanted = api.V2beta1RecurringRun(
        display_name=name,
        experiment_id=server.experiment_id(experiment),
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=pipeline_id, pipeline_version_id=version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,
    )
    jobs = server.jobs(pipeline_id)
    followers = {job.display_name for job in jobs if _follows_latest(job)} - {name}
    if followers:
        say(f"follow the latest version too: {', '.join(sorted(followers))}")
    present = [job for job in jobs if job.display_name == name]
    same = next((job for job in present if _traits(job) == _traits(wanted)), None)
    current = same or server.ask(
        "create the schedule",
        server.recurring_runs.recurring_run_service_create_recurring_run_with_http_info,
        wanted,
    )
    old = [job for job in present if job.recurring_run_id != current.recurring_run_id]
    _switch_off(server, old)
    for job in old:
        if left := _delete_idle(server, job):
            say(
                f"{_title(job)} is switched off, and stays until its run {left[0].run_id} has ended: "
                "deleting it would kill that run. The next `schedule apply` removes it"
            )
    return _schedule(current, zone, created=same is None)


def list_schedules(*, host: str, namespace: str = "", token: str = "", zone: tzinfo = UTC) -> list[Schedule]:
    """The schedules of the pipeline `defectline`, by name."""
    server = Server(host, namespace, token)
    jobs = sorted(server.jobs(server.pipeline_id()), key=lambda job: str(job.created_at), reverse=True)
    found: list[Schedule] = []
    for job in jobs:
        newer = any(one.name == job.display_name for one in found)
        off = job.mode != api.RecurringRunMode.ENABLE
        found.append(replace(_schedule(job, zone), leftover=newer and off))
    return sorted(found, key=lambda schedule: (schedule.name, schedule.leftover))


def switch_schedule(
    *, host: str, name: str, enabled: bool, namespace: str = "", token: str = "", zone: tzinfo = UTC
) -> list[Schedule]:
    """Pause or resume the schedule of that name; SettingsError if there is none.

    Times that pass meanwhile are not caught up. Where the name is there more than once, because an earlier
    one still has a run under way, the newest is resumed, and the others stay off.
    """
    server = Server(host, namespace, token)
    jobs = _named(server, name)
    chosen = jobs[:1] if enabled else jobs
    for job in chosen:
        server.switch_job(job, enabled)
    return [_schedule(job, zone) for job in chosen]


def delete_schedule(
    *,
    host: str,
    name: str,
    force: bool = False,
    wait_s: float = 0.0,
    poll_s: float = 5.0,
    namespace: str = "",
    token: str = "",
    say: Say = print,
) -> None:
    """Delete every schedule of that name of the pipeline `defectline`; SettingsError if there is none.

    They are switched off first. While a run of theirs is under way, which deleting would kill, this waits for
    it for `wait_s` seconds; with `force` it says what it kills, and deletes. Raises ServingError where a run
    is still under way then: the schedule stays, switched off.
    """
    server = Server(host, namespace, token)
    jobs = _named(server, name)
    deadline = time.monotonic() + wait_s
    said: set[str] = set()
    _switch_off(server, jobs)
    for job in jobs:
        while left := _delete_idle(server, job, force=force):
            runs = ", ".join(run.run_id for run in left)
            if force:
                say(
                    f"{_title(job)} is deleted, and its run {runs} killed with it: it ends without an outcome"
                )
                break
            if time.monotonic() >= deadline:
                raise ServingError(
                    f"The schedule {name} was not deleted: that would kill its run.",
                    got=f"{runs} under way",
                    expected="no run of the schedule under way",
                    fix="It is switched off and starts no more runs. Delete it once the run has ended, wait "
                    "for that with --timeout SECONDS, or kill the run with --force.",
                )
            if runs not in said:
                said.add(runs)
                say(f"{_title(job)} is switched off; waiting for its run {runs}")
            time.sleep(poll_s)


def _switch_off(server: Server, jobs: Sequence[api.V2beta1RecurringRun]) -> None:
    """Have them start no more runs; afterwards every run that they have started is on the server."""
    for job in jobs:
        if job.mode != api.RecurringRunMode.DISABLE:
            server.switch_job(job, enabled=False)
    if jobs:
        # Also where they were paused before: that may have been a moment ago.
        time.sleep(SETTLE_S)


def _delete_idle(server: Server, job: api.V2beta1RecurringRun, force: bool = False) -> list[Any]:
    """Delete a recurring run that is off; returns its runs under way, which keep it unless `force`."""
    left = server.runs_of(job.recurring_run_id, job.experiment_id)
    if force or not left:
        server.delete_job(job)
    return left


def _title(job: api.V2beta1RecurringRun) -> str:
    return f"the schedule {job.display_name} ({job.recurring_run_id})"


def run_request(*, host: str, name: str, namespace: str = "", token: str = "") -> dict[str, Any]:
    """The JSON body that, posted to /apis/v2beta1/runs, starts what the schedule of that name starts.

    For whatever notices new images: it needs an HTTP client and a token, and no defectline. Raises
    SettingsError if there is no such schedule.
    """
    server = Server(host, namespace, token)
    job = _named(server, name)[0]
    reference = job.pipeline_version_reference
    request: dict[str, Any] = server.as_json(
        api.V2beta1Run(
            display_name=f"{name}-event",
            experiment_id=job.experiment_id,
            pipeline_version_reference=reference,
            runtime_config=job.runtime_config,
            service_account=job.service_account,
        )
    )
    return request


def _named(server: Server, name: str) -> list[api.V2beta1RecurringRun]:
    """The recurring runs of that name, the newest first."""
    jobs = server.jobs(server.pipeline_id())
    named = [job for job in jobs if job.display_name == name]
    if not named:
        raise SettingsError(
            f"There is no schedule named {name}.",
            got=", ".join(sorted({job.display_name for job in jobs})) or "no schedule at all",
            expected=f"a schedule of the pipeline {PIPELINE}",
            fix="Name one that `defectline schedule list` shows.",
        )
    # Those before the newest are leftovers, which wait for a run to end.
    return sorted(named, key=lambda job: str(job.created_at), reverse=True)


def _traits(job: api.V2beta1RecurringRun) -> tuple[object, ...]:
    """All that makes two schedules of a name the same; the server does not tell `no_catchup`."""
    return (
        _cron(job),
        job.runtime_config.parameters if job.runtime_config else {},
        job.pipeline_version_reference.pipeline_version_id or "",
        job.experiment_id,
        job.mode,
        str(job.max_concurrency),
    )


def _cron(job: api.V2beta1RecurringRun) -> str:
    trigger = job.trigger
    return (trigger.cron_schedule.cron or "") if trigger and trigger.cron_schedule else ""


def _follows_latest(job: api.V2beta1RecurringRun) -> bool:
    return not job.pipeline_version_reference.pipeline_version_id


def _schedule(job: api.V2beta1RecurringRun, zone: tzinfo, *, created: bool = False) -> Schedule:
    enabled = job.mode == api.RecurringRunMode.ENABLE
    cron, known = read_as_kfp(_cron(job))
    starts: tuple[datetime, ...] = ()
    if known and enabled:
        starts = tuple(islice(times(cron, after=datetime.now(zone)), 3))
    return Schedule(
        job.recurring_run_id, job.display_name, cron, created, enabled, _follows_latest(job), starts
    )
