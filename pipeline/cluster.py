"""Runs and schedules on a Kubeflow Pipelines server, backend 2.17 or newer.

This speaks through kfp's generated client, `kfp_server_api`, and not through `kfp.Client`: that one also
reads ~/.config/kfp and KF_PIPELINES_* variables, prints links, and logs a traceback every five seconds
while a server does not answer. What happens here follows from the arguments alone.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as api
import urllib3
import yaml
from croniter import CroniterError, croniter
from urllib3 import exceptions as http

from defectline.components.common.errors import DefectlineError, ServingError, SettingsError

PIPELINE = "defectline"
"""The pipeline that holds every uploaded version; only schedules of this pipeline are listed or deleted."""

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})

REQUEST_TIMEOUT_S = (10, 60)
"""Connect and read timeouts of one request."""

RETRY_BACKOFF_S = 0.2
"""Repetitions of a request come after 0, 2 and 4 times this."""

MAX_POLL_S = 15.0

HOST_EXAMPLE = "https://kubeflow.example.com/pipeline or http://localhost:8080"
CRON_EXAMPLE = "0 2 * * 1-5"

CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
CRON_TERM = re.compile(r"(?:\*|(?P<first>\d+|[a-z]{3})(?:-(?P<last>\d+|[a-z]{3}))?)(?:/(?P<step>\d+))?", re.A)

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
    server = _Server(host, namespace, token)
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
    server = _Server(host, namespace, token)
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
    server = _Server(host, namespace, token)
    jobs = server.jobs(server.pipeline_id())
    return sorted((_schedule(job, created=False) for job in jobs), key=lambda schedule: schedule.name)


def delete_schedule(*, host: str, name: str, namespace: str = "", token: str = "") -> None:
    """Delete every schedule of that name of the pipeline `defectline`; SettingsError if there is none."""
    server = _Server(host, namespace, token)
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


def normalise_cron(text: str) -> str:
    """Six cron fields, seconds first, as KFP wants them; five fields get second 0.

    KFP takes five fields too, but reads them shifted by one (`10 10 * * *` then runs every hour), so
    this is never left to it. Only what KFP's parser and cron agree on is accepted: numbers, names,
    `*`, ranges, lists and steps, Sunday as 0.

    Raises SettingsError for anything else, and for times that never come (30 February).
    """
    fields = text.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise _bad_cron(text, f"{len(fields)} fields")
    for field, (what, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        if field == "?" and what.startswith("day"):
            continue
        for term in field.lower().split(","):
            if not _is_cron_term(term, low, high, names):
                raise _bad_cron(text, f"{term!r} as {what}, which goes from {low} to {high}")
    cron = " ".join(fields)
    try:
        next(_times(cron, after=datetime(2024, 1, 1, tzinfo=UTC)))
    except CroniterError:
        raise _bad_cron(text, "times that never come") from None
    return cron


def _is_cron_term(term: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    match = CRON_TERM.fullmatch(term)
    if match is None:
        return False
    numbers = {name: number for number, name in enumerate(names, low)}
    ends = [end for end in (match["first"], match["last"]) if end is not None]
    if not all(end.isdigit() or end in numbers for end in ends):
        return False
    values = [numbers[end] if end in numbers else int(end) for end in ends]
    # A range from a value to itself or backwards means one thing to KFP and another to croniter.
    rising = len(values) < 2 or values[0] < values[1]
    step = int(match["step"] or 1)
    return rising and all(low <= value <= high for value in values) and 1 <= step <= high


def _bad_cron(text: str, got: str) -> SettingsError:
    return SettingsError(
        f"the cron expression {text!r} cannot be used",
        got=got,
        expected="minute, hour, day of the month, month, day of the week, and optionally the second before",
        fix=f"write for instance '{CRON_EXAMPLE}' for 02:00 on working days",
    )


def _times(cron: str, after: datetime) -> Iterator[datetime]:
    # implement_cron_bug: like KFP's parser, `*/2` in one of the two day fields restricts the other.
    times = croniter(cron, after, second_at_beginning=True, implement_cron_bug=True)
    while True:
        yield times.get_next(datetime)


@dataclass(frozen=True)
class _Package:
    path: Path
    spec: dict[str, Any]
    version: str
    steps: frozenset[str]


def _read_package(path: Path, parameters: dict[str, object]) -> _Package:
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
    return _Package(path, spec, hashlib.sha256(content).hexdigest()[:12], _step_names(root, components))


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
    server: "_Server",
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
    times: tuple[datetime, ...] = ()
    if cron and enabled:
        upcoming = _times(cron, after=datetime.now(UTC))
        times = (next(upcoming), next(upcoming), next(upcoming))
    return Schedule(job.recurring_run_id, job.display_name, cron, created, enabled, times)


class _Server:
    """One server, one namespace; every failure of it becomes an error that says what to do."""

    def __init__(self, host: str, namespace: str, token: str):
        self.host, self.namespace, self._token = _checked_host(host), namespace, _checked_token(token)
        configuration = api.Configuration(host=self.host)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        # Only reading is tried again after an answer: a second POST could start a second run.
        configuration.retries = urllib3.Retry(
            total=3,
            backoff_factor=RETRY_BACKOFF_S,
            allowed_methods={"GET"},
            status_forcelist={429, 500, 502, 503, 504},
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        if self._token:
            configuration.api_key["authorization"] = self._token
            configuration.api_key_prefix["authorization"] = "Bearer"
        client = api.ApiClient(configuration)
        self.runs = api.RunServiceApi(client)
        self.recurring_runs = api.RecurringRunServiceApi(client)
        self._experiments = api.ExperimentServiceApi(client)
        self._pipelines = api.PipelineServiceApi(client)
        self._uploads = api.PipelineUploadServiceApi(client)
        self._check_health(api.HealthzServiceApi(client))

    def ask(self, purpose: str, method: Callable[..., Any], *args: object, **options: object) -> Any:
        """The answer of a `..._with_http_info` method; `purpose` completes "could not ..."."""
        try:
            answer, _, headers = method(*args, _request_timeout=REQUEST_TIMEOUT_S, **options)
        except api.ApiException as error:
            raise self._refused(purpose, error) from None
        except http.HTTPError as error:
            raise self._unreachable(purpose, error) from None
        kind = headers.get("content-type", "no content type")
        if "json" not in kind:
            raise self._not_kfp(f"an answer of {kind}, such as a login page")
        return answer

    def pages(self, purpose: str, method: Callable[..., Any], field: str, **options: object) -> Iterator[Any]:
        """The items of every page of a list."""
        page_token = ""
        while True:
            page = self.ask(purpose, method, page_token=page_token, page_size=100, **options)
            yield from getattr(page, field) or []
            page_token = page.next_page_token
            if not page_token:
                return

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, created where it is missing."""
        found = self.pages(
            "list experiments",
            self._experiments.experiment_service_list_experiments_with_http_info,
            "experiments",
            filter=_named(name),
            namespace=self.namespace,
        )
        experiment = next((one for one in found if one.display_name == name), None)
        if experiment is None:
            experiment = self.ask(
                f"create the experiment {name}",
                self._experiments.experiment_service_create_experiment_with_http_info,
                api.V2beta1Experiment(display_name=name, namespace=self.namespace),
            )
        elif experiment.storage_state == api.V2beta1ExperimentStorageState.ARCHIVED:
            raise SettingsError(
                f"the experiment {name} is archived",
                got="an experiment whose runs nobody would see",
                expected="an experiment in use",
                fix="restore it in the user interface or name another with --experiment",
            )
        return experiment.experiment_id

    def pipeline_id(self) -> str | None:
        found = self.pages(
            "list pipelines",
            self._pipelines.pipeline_service_list_pipelines_with_http_info,
            "pipelines",
            filter=_named(PIPELINE),
            namespace=self.namespace,
        )
        return next((one.pipeline_id for one in found if one.display_name == PIPELINE), None)

    def create_pipeline(self) -> str:
        created = self.ask(
            f"create the pipeline {PIPELINE}",
            self._pipelines.pipeline_service_create_pipeline_with_http_info,
            api.V2beta1Pipeline(name=PIPELINE, display_name=PIPELINE, namespace=self.namespace),
        )
        return created.pipeline_id

    def version_id(self, pipeline_id: str, package: _Package) -> str:
        """The version with this package's content, uploaded where it is missing."""
        found = self.pages(
            "list pipeline versions",
            self._pipelines.pipeline_service_list_pipeline_versions_with_http_info,
            "pipeline_versions",
            pipeline_id=pipeline_id,
            filter=_named(package.version),
        )
        version = next((one for one in found if one.display_name == package.version), None)
        if version is None:
            version = self.ask(
                f"upload {package.path}",
                self._uploads.upload_pipeline_version_with_http_info,
                str(package.path),
                name=package.version,
                pipelineid=pipeline_id,
            )
        return version.pipeline_version_id

    def jobs(self, pipeline_id: str | None) -> list[Any]:
        """The recurring runs of that pipeline; those of other pipelines are none of our business."""
        found = self.pages(
            "list schedules",
            self.recurring_runs.recurring_run_service_list_recurring_runs_with_http_info,
            "recurring_runs",
            namespace=self.namespace,
        )
        references = ((job, job.pipeline_version_reference) for job in found)
        return [job for job, ref in references if ref and pipeline_id and ref.pipeline_id == pipeline_id]

    def delete_job(self, job: api.V2beta1RecurringRun) -> None:
        self.ask(
            f"delete the schedule {job.display_name} ({job.recurring_run_id})",
            self.recurring_runs.recurring_run_service_delete_recurring_run_with_http_info,
            job.recurring_run_id,
        )

    def _check_health(self, healthz: api.HealthzServiceApi) -> None:
        health = self.ask("find Kubeflow Pipelines", healthz.healthz_service_get_healthz_with_http_info)
        if health.multi_user and not self.namespace:
            raise SettingsError(
                f"{self.host} keeps the runs of each namespace apart",
                got="no namespace",
                expected="the namespace of your Kubeflow profile",
                fix="name it with --namespace",
            )

    def _refused(self, purpose: str, error: api.ApiException) -> DefectlineError:
        message = self._message(error)
        if error.status == 404 and purpose == "find Kubeflow Pipelines":
            return self._not_kfp(f"404, {message}")
        kind, expected, fix = REFUSALS.get(error.status, SERVER_FAULT)
        return kind(
            f"{self.host}: could not {purpose}",
            got=f"{error.status}, {message}",
            expected=expected + (f" in the namespace {self.namespace}" if self.namespace else ""),
            fix=fix,
        )

    def _message(self, error: api.ApiException) -> str:
        """What the server says, on one line; a careless proxy may even echo the token."""
        text = error.body or error.reason or "no message"
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        if isinstance(body, dict):
            body = body.get("error_message") or body.get("message") or body.get("error") or text
        line = " ".join(str(body).split())
        if self._token:
            line = line.replace(self._token, "<token>")
        return line if len(line) <= 300 else line[:299] + "…"

    def _unreachable(self, purpose: str, error: http.HTTPError) -> DefectlineError:
        reason = error.reason if isinstance(error, http.MaxRetryError) else error
        name = urlsplit(self.host).hostname
        kind: type[DefectlineError] = ServingError
        if isinstance(reason, http.NameResolutionError):
            kind, got = SettingsError, f"no address for the name {name}"
            fix = "correct --host, or connect to the network that knows the name"
        elif isinstance(reason, http.SSLError):
            kind, got = SettingsError, f"no secure connection: {reason}"
            fix = "set SSL_CERT_FILE to your certificate authority's file, or use http:// where TLS is off"
        elif isinstance(reason, http.NewConnectionError):
            got = f"nobody listens there ({str(reason).rpartition(': ')[2]})"
            fix = "start the server or its port-forward, or correct --host"
        elif isinstance(reason, http.TimeoutError):
            got = f"no answer within {REQUEST_TIMEOUT_S[-1]} s"
            fix = "look in the user interface whether it happened all the same, then try again"
        else:
            got = f"a broken connection: {reason}"
            fix = "look in the user interface whether it happened all the same, then try again"
        return kind(
            f"{self.host}: could not {purpose}",
            got=got,
            expected="a Kubeflow Pipelines server that answers",
            fix=fix,
        )

    def _not_kfp(self, got: str) -> SettingsError:
        return SettingsError(
            f"{self.host} does not answer as a Kubeflow Pipelines 2 server does",
            got=got,
            expected=f"the address of its API, such as {HOST_EXAMPLE}",
            fix="correct --host, and set KFP_TOKEN where a login stands before the server",
        )


REFUSALS: dict[int, tuple[type[DefectlineError], str, str]] = {
    400: (SettingsError, "a request that the server accepts", "correct what the server names"),
    401: (SettingsError, "a token that is valid now", "get a new token and set KFP_TOKEN to it"),
    403: (SettingsError, "a token that may do this", "ask for edit rights, or name another --namespace"),
    404: (SettingsError, "something that the server knows", "check --namespace and --experiment"),
    409: (ServingError, "nobody else creating the same at this moment", "run the command again"),
}
SERVER_FAULT: tuple[type[DefectlineError], str, str] = (
    ServingError,
    "a server in working order",
    "try again later; `kubectl logs -n kubeflow deployment/ml-pipeline` shows the server's side",
)


def _named(name: str) -> str:
    """A list filter; the server compares without regard to case, so callers compare once more."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _checked_host(host: str) -> str:
    try:
        parts = urlsplit(host.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            "this is no address of a Kubeflow Pipelines server",
            got="an address with a user name or password" if "@" in host else repr(host),
            expected=f"an address such as {HOST_EXAMPLE}",
            fix="correct --host",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _checked_token(token: str) -> str:
    token = token.strip()
    # The HTTP library would show a token that it cannot put into a header.
    if not re.fullmatch(r"[!-~]*", token):
        raise SettingsError(
            "the token cannot be sent",
            got=f"{len(token)} characters with a blank, a line break or a letter outside ASCII",
            expected="one word",
            fix="set KFP_TOKEN to the token alone, without the word Bearer",
        )
    return token
