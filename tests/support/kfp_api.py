"""A stand-in for the Kubeflow Pipelines API server (v2beta1), for tests through the real client.

It listens on a free loopback port and keeps pipelines, versions, experiments, runs and recurring runs in
memory. Every JSON body is read strictly with the models of `kfp_server_api` (an unknown attribute, a
wrong type or a missing required one is answered with 400), and every answer is made from those models.
Where the real server is peculiar, so is this one: filters ignore case, lists come in small pages, a
recurring run's `no_catchup` is not told, no task has an error, what has not ended has an end in the year 1,
all tasks are made at the same time, and a recurring run takes its running runs with it when it is deleted:
they stay RUNNING.
"""

import email
import itertools
import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api as api
import yaml

PREFIX = "/apis/v2beta1"
PAGE_LIMIT = 2

REQUIRED = {
    "V2beta1Experiment": ("display_name",),
    "V2beta1Pipeline": ("name",),
    "V2beta1Run": ("display_name", "experiment_id"),
    "V2beta1RecurringRun": ("display_name", "experiment_id", "max_concurrency", "mode", "trigger"),
}
INT64 = frozenset({"max_concurrency"})
PRIMITIVES = {"str": str, "bool": bool, "int": int, "datetime": str}

Step = tuple[str, dict[str, str]]
"""A run's state at one poll, and its tasks' states, in the order in which they began. What follows `#` makes
tasks of the same name differ."""
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
"""The end of what has not ended."""

SUCCESS: tuple[Step, ...] = (
    ("PENDING", {}),
    ("RUNNING", {"root-driver": "SUCCEEDED", "root": "RUNNING", "measure": "RUNNING"}),
    ("RUNNING", {"root": "RUNNING", "measure": "SUCCEEDED", "judge": "RUNNING", "executor": "RUNNING"}),
    ("SUCCEEDED", {"root": "SUCCEEDED", "measure": "SUCCEEDED", "judge": "SUCCEEDED"}),
)


class Refused(Exception):
    """An answer other than 200, in the form that the server's gRPC gateway gives it."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None
    token: str


@dataclass
class Fault:
    method: str
    path: str
    status: int
    body: str
    content_type: str
    times: int
    silent: bool


@dataclass
class KfpApi:
    """The server's memory, and what tests script: `script` for runs, `fail` for faults."""

    multi_user: bool = False
    version: str = "2.17.0"
    script: tuple[Step, ...] = SUCCESS
    token: str = ""
    host: str = ""
    requests: list[Request] = field(default_factory=list)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring_runs: dict[str, Any] = field(default_factory=dict)
    unlabelled: set[str] = field(default_factory=set)
    """Names of versions that are kept, but not listed, as in Kubernetes-native mode without the webhook."""
    faults: list[Fault] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)
    polls: dict[str, Iterator[Step]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    """By pod."""
    lost: set[str] = field(default_factory=set)
    """Runs whose workflow is gone: nothing of them changes any more."""
    expires_after: int = -1
    """Requests after which the token has expired; -1 for never."""

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        body: str = '{"code": 13, "message": "scripted"}',
        *,
        content_type: str = "application/json",
        times: int = 1_000,
        silent: bool = False,
    ) -> None:
        """Answer the next `times` requests whose path holds `path` so; `silent` never answers."""
        self.faults.append(Fault(method, path, status, body, content_type, times, silent))

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """The JSON bodies that were posted to this path."""
        posted = (one for one in self.requests if one.method == "POST" and one.path == PREFIX + path)
        return [one.body for one in posted if one.body is not None]

    def answer(self, request: Request, upload: bytes | None) -> Any:
        """The model that answers a request, or Refused."""
        if self.expires_after == 0:
            raise Refused(401, "Jwt is expired")
        self.expires_after = max(self.expires_after - 1, -1)
        if self.token and request.token != f"Bearer {self.token}":
            raise Refused(401, f"Request header error: there is no valid user in {request.token!r}")
        log = re.fullmatch("/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", request.path)
        if log and request.method == "GET":
            return self.read_log(request, None, *log.groups())
        for method, pattern, handle in ROUTES:
            match = re.fullmatch(PREFIX + pattern, request.path)
            if match and method == request.method:
                ids = [unquote(one) for one in match.groups()]
                return handle(self, request, upload, *ids)
        raise Refused(404, "Not Found")

    # Handlers: (request, uploaded file, ids in the path).

    def healthz(self, request: Request, upload: None) -> Any:
        # More than the generated model knows: the server writes this answer by hand.
        found = {"commit_sha": "0" * 40, "tag_name": self.version, "pipeline_store": "database"}
        return {**found, "multi_user": self.multi_user}

    def list_experiments(self, request: Request, upload: None) -> Any:
        return self._page(
            self._of_namespace(self.experiments, request), request, api.V2beta1ListExperimentsResponse
        )

    def create_experiment(self, request: Request, upload: None) -> Any:
        experiment = read("V2beta1Experiment", request.body)
        self._check_namespace(experiment.namespace)
        if any(one.display_name == experiment.display_name for one in self.experiments.values()):
            raise Refused(409, f"Already exist error: experiment {experiment.display_name}")
        experiment.experiment_id = self._keep(self.experiments, experiment)
        experiment.storage_state = api.V2beta1ExperimentStorageState.AVAILABLE
        return experiment

    def list_pipelines(self, request: Request, upload: None) -> Any:
        return self._page(
            self._of_namespace(self.pipelines, request), request, api.V2beta1ListPipelinesResponse
        )

    def create_pipeline(self, request: Request, upload: None) -> Any:
        pipeline = read("V2beta1Pipeline", request.body)
        self._check_namespace(pipeline.namespace)
        pipeline.display_name = pipeline.display_name or pipeline.name
        pipeline.pipeline_id = self._keep(self.pipelines, pipeline)
        return pipeline

    def list_versions(self, request: Request, upload: None, pipeline_id: str) -> Any:
        known(self.pipelines, pipeline_id, "Pipeline")
        versions = [one for one in self.versions.values() if one.pipeline_id == pipeline_id]
        versions = [one for one in versions if one.name not in self.unlabelled]
        if request.query.get("sort_by") == "created_at desc":
            versions.sort(key=lambda one: one.created_at, reverse=True)
        return self._page(versions, request, api.V2beta1ListPipelineVersionsResponse)

    def upload_version(self, request: Request, upload: bytes | None) -> Any:
        pipeline_id, name = request.query["pipelineid"], request.query["name"]
        known(self.pipelines, pipeline_id, "Pipeline")
        spec = list(yaml.safe_load_all(upload or b""))
        if not spec or "root" not in spec[0]:
            raise Refused(400, "unknown template format")
        if any((one.pipeline_id, one.name) == (pipeline_id, name) for one in self.versions.values()):
            raise Refused(
                409,
                f"Failed to create a new pipeline version. The name {name} already exists. Please specify a "
                "new name",
            )
        # What is Kubernetes' alone, such as secrets, is a document, and in the answer a key, of its own.
        whole = spec[0] if len(spec) == 1 else {"pipeline_spec": spec[0], "platform_spec": spec[1]}
        version = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id, name=name, display_name=name, pipeline_spec=whole
        )
        version.pipeline_version_id = self._keep(self.versions, version)
        return version

    def create_run(self, request: Request, upload: None) -> Any:
        run = read("V2beta1Run", request.body)
        self._check_source(run)
        run.run_id = self._keep(self.runs, run)
        run.state = "PENDING"
        steps = itertools.chain(self.script, itertools.repeat(self.script[-1]))
        self.polls[run.run_id] = steps
        return run

    def list_runs(self, request: Request, upload: None) -> Any:
        self._check_namespace(request.query.get("namespace", ""))
        newest_first = request.query.get("sort_by") == "created_at desc"
        wanted = request.query.get("experiment_id") or None
        ours = [run for run in self.runs.values() if wanted in (None, run.experiment_id)]
        runs = sorted(ours, key=lambda run: run.created_at, reverse=newest_first)
        return self._page(runs, request, api.V2beta1ListRunsResponse)

    def get_run(self, request: Request, upload: None, run_id: str) -> Any:
        run = known(self.runs, run_id, "Run")
        if run_id in self.polls and run_id not in self.lost:
            run.state, tasks = next(self.polls[run_id])
            details = [task_detail(run_id, number, *task) for number, task in enumerate(tasks.items())]
            # In no order that anything may rest on.
            run.run_details = api.V2beta1RunDetails(task_details=details[::-1])
        run.finished_at = run.finished_at or BEGINNING
        return run

    def start_scheduled(self, job_id: str, state: str | None = "RUNNING") -> str:
        """Have a recurring run start a run, which stays in this state; its id."""
        job = self.recurring_runs[job_id]
        run = api.V2beta1Run(
            display_name=f"{job.display_name}-1",
            experiment_id=job.experiment_id,
            pipeline_version_reference=job.pipeline_version_reference,
            runtime_config=job.runtime_config,
            recurring_run_id=job_id,
            state=state,
        )
        run.run_id = self._keep(self.runs, run)
        return run.run_id

    def stop_run(self, request: Request, upload: None, run_id: str) -> Any:
        known(self.runs, run_id, "Run")
        if run_id not in self.lost:
            self.polls[run_id] = itertools.repeat(("CANCELED", {}))
        return {}

    def read_log(self, request: Request, upload: None, run_id: str, pod: str) -> Any:
        known(self.runs, run_id, "Run")
        return known(self.logs, pod, "Pod")

    def get_recurring_run(self, request: Request, upload: None, job_id: str) -> Any:
        return known(self.recurring_runs, job_id, "Job")

    def list_recurring_runs(self, request: Request, upload: None) -> Any:
        return self._page(
            self._of_namespace(self.recurring_runs, request), request, api.V2beta1ListRecurringRunsResponse
        )

    def create_recurring_run(self, request: Request, upload: None) -> Any:
        job = read("V2beta1RecurringRun", request.body)
        self._check_source(job)
        if not 1 <= int(job.max_concurrency) <= 10:
            raise Refused(400, "Invalid input error: The max concurrency of the job is out of range")
        job.namespace = self.experiments[job.experiment_id].namespace
        job.max_concurrency = str(job.max_concurrency)
        job.no_catchup = None
        job.recurring_run_id = self._keep(self.recurring_runs, job)
        return job

    def delete_recurring_run(self, request: Request, upload: None, job_id: str) -> Any:
        known(self.recurring_runs, job_id, "Job")
        del self.recurring_runs[job_id]
        running = (run for run in self.runs.values() if run.recurring_run_id == job_id)
        ended = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
        self.lost |= {run.run_id for run in running if run.state not in ended}
        return {}

    def switch_recurring_run(self, request: Request, upload: None, job_id: str, verb: str) -> Any:
        known(self.recurring_runs, job_id, "Job").mode = verb.upper()
        return {}

    def _keep(self, where: dict[str, Any], model: Any) -> str:
        where[key := str(uuid.uuid4())] = model
        model.created_at = datetime.now(UTC)
        return key

    def _check_namespace(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise Refused(400, "Invalid input error: a namespace is needed in multi-user mode")

    def _check_source(self, model: Any) -> None:
        known(self.experiments, model.experiment_id, "Experiment")
        reference = model.pipeline_version_reference
        if (reference is None) == (model.pipeline_spec is None):
            raise Refused(400, "Invalid input error: either a pipeline spec or a reference is needed")
        if reference:
            known(self.pipelines, reference.pipeline_id, "Pipeline")
            if reference.pipeline_version_id:
                known(self.versions, reference.pipeline_version_id, "PipelineVersion")
            elif not any(one.pipeline_id == reference.pipeline_id for one in self.versions.values()):
                raise Refused(400, "Invalid input error: the pipeline has no version")

    def _of_namespace(self, where: dict[str, Any], request: Request) -> list[Any]:
        namespace = request.query.get("namespace", "")
        self._check_namespace(namespace)
        return [one for one in where.values() if (one.namespace or "") == namespace]

    def _page(self, items: list[Any], request: Request, response: Any) -> Any:
        for predicate in json.loads(request.query.get("filter") or "{}").get("predicates", []):
            if predicate["operation"] not in (1, "EQUALS") or predicate["key"] != "display_name":
                raise Refused(400, f"Invalid input error: unsupported predicate {predicate}")
            wanted = predicate["stringValue"].lower()
            items = [one for one in items if one.display_name.lower() == wanted]
        start = int(request.query.get("page_token") or 0)
        size = min(int(request.query.get("page_size") or PAGE_LIMIT), PAGE_LIMIT)
        page = items[start : start + size]
        field_name = next(name for name, kind in response.openapi_types.items() if kind.startswith("list"))
        more = str(start + size) if start + size < len(items) else None
        return response(**{field_name: page or None, "next_page_token": more, "total_size": len(items)})


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/healthz", KfpApi.healthz),
    ("GET", "/experiments", KfpApi.list_experiments),
    ("POST", "/experiments", KfpApi.create_experiment),
    ("GET", "/pipelines", KfpApi.list_pipelines),
    ("POST", "/pipelines", KfpApi.create_pipeline),
    ("GET", "/pipelines/([^/]+)/versions", KfpApi.list_versions),
    ("POST", "/pipelines/upload_version", KfpApi.upload_version),
    ("POST", "/runs", KfpApi.create_run),
    ("GET", "/runs", KfpApi.list_runs),
    ("GET", "/runs/([^/]+)", KfpApi.get_run),
    ("POST", "/runs/([^/]+):terminate", KfpApi.stop_run),
    ("GET", "/recurringruns/([^/]+)", KfpApi.get_recurring_run),
    ("GET", "/recurringruns", KfpApi.list_recurring_runs),
    ("POST", "/recurringruns", KfpApi.create_recurring_run),
    ("POST", "/recurringruns/([^/]+):(enable|disable)", KfpApi.switch_recurring_run),
    ("DELETE", "/recurringruns/([^/]+)", KfpApi.delete_recurring_run),
]


def known(where: dict[str, Any], key: str, what: str) -> Any:
    if key not in where:
        raise Refused(404, f"ResourceNotFoundError: {what} {key} not found.")
    return where[key]


def task_detail(run_id: str, number: int, name: str, state: str) -> Any:
    began = datetime(2026, 1, 1, second=number, tzinfo=UTC)
    ended = state not in ("PENDING", "RUNNING")
    return api.V2beta1PipelineTaskDetail(
        run_id=run_id,
        task_id=f"{run_id}-{name}",
        display_name=name.partition("#")[0],
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
        start_time=began,
        end_time=began + timedelta(minutes=1) if ended else BEGINNING,
        state=state,
    )


def read(kind: str, data: Any) -> Any:
    """The model that a JSON body stands for, or Refused with what is wrong in it."""
    if data is None:
        raise Refused(400, f"{kind}: no body")
    for name in REQUIRED.get(kind, ()):
        if name not in data:
            raise Refused(400, f"{kind}: {name} is missing")
    return _read(kind, data, kind)


def _read(kind: str, value: Any, where: str) -> Any:
    if kind == "object":
        return value
    if kind in PRIMITIVES:
        if not isinstance(value, PRIMITIVES[kind]):
            raise Refused(400, f"{where}: {value!r} is no {kind}")
        return value
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {key: _read(inner[1], one, f"{where}.{key}") for key, one in value.items()}
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        return [_read(inner[1], one, f"{where}[{index}]") for index, one in enumerate(value)]
    model = getattr(api, kind)
    if not model.openapi_types:
        if value not in model.allowable_values:
            raise Refused(400, f"{where}: {value!r} is none of {model.allowable_values}")
        return value
    attributes = {key: name for name, key in model.attribute_map.items()}
    unknown = value.keys() - attributes.keys()
    if unknown:
        raise Refused(400, f"{where}: unknown attribute {sorted(unknown)}")
    fields = {}
    for key, one in value.items():
        name = attributes[key]
        if name in INT64 and isinstance(one, int | str) and str(one).isdigit():
            fields[name] = str(one)
        else:
            fields[name] = _read(model.openapi_types[name], one, f"{where}.{key}")
    return model(**fields)


def _uploaded(content_type: str, body: bytes) -> bytes:
    """The content of the form field `uploadfile`."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    for part in message.walk():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise Refused(400, "Failed to read pipeline from file")


def _handler(server: KfpApi) -> type[BaseHTTPRequestHandler]:
    client = api.ApiClient()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            content_type = self.headers.get("content-type") or ""
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            is_form = content_type.startswith("multipart/")
            posted = json.loads(body) if body and not is_form else None
            token = self.headers.get("authorization", "")
            request = Request(self.command, parts.path, query, posted, token)
            with lock:
                server.requests.append(request)
                fault = self.fault(request)
            if fault and fault.silent:
                server.closed.wait()
                self.close_connection = True
                return
            if fault:
                self.send(fault.status, fault.body, fault.content_type)
                return
            try:
                with lock:
                    answer = server.answer(request, _uploaded(content_type, body) if is_form else None)
                    text = json.dumps(client.sanitize_for_serialization(answer))
                self.send(200, text)
            except Refused as error:
                self.send(error.status, json.dumps({"error": str(error), "code": 3, "message": str(error)}))

        do_GET = do_POST = do_DELETE = handle_request

        def fault(self, request: Request) -> Fault | None:
            for fault in server.faults:
                if fault.times and fault.method == request.method and fault.path in request.path:
                    fault.times -= 1
                    return fault
            return None

        def send(self, status: int, text: str, content_type: str = "application/json") -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Keep test output readable; `requests` holds what came in."""

    return Handler


@contextmanager
def running(server: KfpApi, tls: ssl.SSLContext | None = None) -> Iterator[KfpApi]:
    """Serve on a free loopback port, named by `server.host`, until the block ends."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    listener.daemon_threads = True
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.host = f"http{'s' if tls else ''}://127.0.0.1:{listener.server_port}"
    try:
        yield server
    finally:
        server.closed.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


def on(server: KfpApi, package: Path) -> list[str]:
    """The options that every command which starts runs there needs."""
    return [
        "--host",
        server.host,
        "--package",
        str(package),
        "--source",
        "s3://plates/a",
        "--store",
        "s3://plates/b",
    ]
