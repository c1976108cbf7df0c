"""Keep recurring runs on a Kubeflow Pipelines server."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import kfp_server_api as api

from defectline.components.common.errors import SettingsError
from defectline.components.common.steps import Say
from defectline.pipeline import PIPELINE
from defectline.pipeline.kfp_server.client import Server
from defectline.pipeline.kfp_server.cron import normalise_cron, times
from defectline.pipeline.kfp_server.package import read_package


@dataclass(frozen=True)
class Schedule:
    """A recurring run.

    `cron` has six fields, seconds first, or is empty for a periodic one that was made by hand.
    `created` is False where nothing had to be changed. `follows_latest` tells that it runs the newest
    version of the pipeline at each time, instead of one. `next_times` are the next three starts, in the time
    zone that was asked for: KFP reads cron in its controller's, which is UTC unless
    CRON_SCHEDULE_TIMEZONE is set there, and does not tell which that is. They are empty for a schedule
    that is switched off.
    """

    id: str
    name: str
    cron: str
    created: bool
    enabled: bool
    follows_latest: bool
    next_times: tuple[datetime, ...]


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
    this package because they follow the newest. Missed times are not caught up and never do two runs
    overlap. Where a schedule of that name
    differs, or is switched off, its successor is created before it is deleted: KFP cannot change one,
    and this way a failure leaves at least one behind. Running the same command again does the rest.

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
    for job in present:
        if job.recurring_run_id != current.recurring_run_id:
            server.delete_job(job)
    return _schedule(current, zone, created=same is None)


def list_schedules(*, host: str, namespace: str = "", token: str = "", zone: tzinfo = UTC) -> list[Schedule]:
    """The schedules of the pipeline `defectline`, by name."""
    server = Server(host, namespace, token)
    jobs = server.jobs(server.pipeline_id())
    return sorted((_schedule(job, zone) for job in jobs), key=lambda schedule: schedule.name)


def switch_schedule(
    *, host: str, name: str, enabled: bool, namespace: str = "", token: str = "", zone: tzinfo = UTC
) -> list[Schedule]:
    """Pause or resume every schedule of that name; SettingsError if there is none.

    Times that pass meanwhile are not caught up.
    """
    server = Server(host, namespace, token)
    service = server.recurring_runs
    jobs = _named(server, name)
    for job in jobs:
        server.ask(
            f"{'resume' if enabled else 'pause'} the schedule {name} ({job.recurring_run_id})",
            service.recurring_run_service_enable_recurring_run_with_http_info
            if enabled
            else service.recurring_run_service_disable_recurring_run_with_http_info,
            job.recurring_run_id,
        )
        job.mode = api.RecurringRunMode.ENABLE if enabled else api.RecurringRunMode.DISABLE
    return [_schedule(job, zone) for job in jobs]


def delete_schedule(*, host: str, name: str, namespace: str = "", token: str = "") -> None:
    """Delete every schedule of that name of the pipeline `defectline`; SettingsError if there is none."""
    server = Server(host, namespace, token)
    for job in _named(server, name):
        server.delete_job(job)


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
    jobs = server.jobs(server.pipeline_id())
    named = [job for job in jobs if job.display_name == name]
    if not named:
        raise SettingsError(
            f"There is no schedule named {name}.",
            got=", ".join(sorted({job.display_name for job in jobs})) or "no schedule at all",
            expected=f"a schedule of the pipeline {PIPELINE}",
            fix="Name one that `defectline schedule list` shows.",
        )
    return named


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
    return trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""


def _follows_latest(job: api.V2beta1RecurringRun) -> bool:
    return not job.pipeline_version_reference.pipeline_version_id


def _schedule(job: api.V2beta1RecurringRun, zone: tzinfo, *, created: bool = False) -> Schedule:
    cron, enabled = _cron(job), job.mode == api.RecurringRunMode.ENABLE
    starts: tuple[datetime, ...] = ()
    if cron and enabled:
        starts = tuple(islice(times(cron, after=datetime.now(zone)), 3))
    return Schedule(
        job.recurring_run_id, job.display_name, cron, created, enabled, _follows_latest(job), starts
    )
