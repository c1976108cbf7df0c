"""A Kubeflow Pipelines server, backend 2.17 or newer, as runs and schedules need it.

This speaks through kfp's generated client, `kfp_server_api`, and not through `kfp.Client`: that one also
reads ~/.config/kfp and KF_PIPELINES_* variables, prints links, and logs a traceback every five seconds
while a server does not answer. What happens here follows from the arguments alone.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as api
from urllib3 import exceptions as http

from defectline.components.common.errors import DefectlineError, ServingError, SettingsError
from defectline.pipeline import PIPELINE
from defectline.pipeline.kfp_server.form import OddAnswer
from defectline.pipeline.kfp_server.package import Package
from defectline.pipeline.kfp_server.transport import Client, Unanswered

OLDEST = (2, 17)
"""The oldest backend that all of this was written for."""

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""States of a run that has ended. A server gives one that it has not heard of yet no state, or an unspecified
one."""

HOST_EXAMPLE = "https://kubeflow.example.com/pipeline or http://localhost:8080"


PIPELINE_LABEL = "pipelines.kubeflow.org/pipeline-id"
"""On each version that a server in Kubernetes-native mode lists: the id of its pipeline."""


class AlreadyThere(ServingError):
    """What should be made has a name that is in use."""


class NotThere(SettingsError):
    """What should be read is not on the server."""


class Server:
    """One server, one namespace; every failure of it becomes an error that says what to do."""

    def __init__(self, host: str, namespace: str, token: str):
        self.host, self.namespace, self._token = _checked_host(host), namespace, _checked_token(token)
        configuration = api.Configuration(host=self.host)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        if self._token:
            configuration.api_key["authorization"] = self._token
            configuration.api_key_prefix["authorization"] = "Bearer"
        client = Client(configuration)
        self.runs = api.RunServiceApi(client)
        self.recurring_runs = api.RecurringRunServiceApi(client)
        self._experiments = api.ExperimentServiceApi(client)
        self._pipelines = api.PipelineServiceApi(client)
        self._uploads = api.PipelineUploadServiceApi(client)
        self._client = client
        self.version = self._check_health()
        """The server's own version; empty where it does not tell."""

    def ask(self, purpose: str, method: Callable[..., Any], *args: object, **options: object) -> Any:
        """The answer of a `..._with_http_info` method; `purpose` completes "Could not ..."."""
        try:
            return method(*args, **options)[0]
        except api.ApiException as error:
            raise self._refused(purpose, error) from None
        except Unanswered as error:
            raise self._unreachable(purpose, error) from None
        except OddAnswer as error:
            raise self._not_kfp(f"{error}, when asked to {purpose}") from None

    def as_json(self, model: Any) -> Any:
        """The JSON that is sent for a model."""
        return self._client.sanitize_for_serialization(model)

    @property
    def remark(self) -> str:
        """What to know about this server; empty for one that is new enough."""
        if not self.too_old:
            return ""
        needed = ".".join(map(str, OLDEST))
        return f"{self.host} is version {self.version}, and defectline was written for {needed} or later"

    @property
    def too_old(self) -> bool:
        numbers = re.match(r"v?(\d+)\.(\d+)", self.version)
        return numbers is not None and tuple(map(int, numbers.groups())) < OLDEST

    def pages(self, purpose: str, method: Callable[..., Any], field: str, **options: object) -> Iterator[Any]:
        """The items of every page of a list."""
        page_token = ""
        while True:
            page = self.ask(purpose, method, page_token=page_token, page_size=100, **options)
            yield from getattr(page, field) or []
            if not page.next_page_token:
                return
            if page.next_page_token == page_token:
                raise self._not_kfp(f"the same page again, when asked to {purpose}")
            page_token = page.next_page_token

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
                f"The experiment {name} is archived.",
                got="an experiment whose runs are hidden",
                expected="an experiment in use",
                fix="Restore it in the user interface, or name another with --experiment.",
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

    def version_id(self, pipeline_id: str, package: Package) -> str:
        """The version with this package's content, uploaded where it is missing."""
        if found := self._listed_version(pipeline_id, package.version):
            return found
        try:
            return self.ask(
                f"upload {package.path}",
                self._uploads.upload_pipeline_version_with_http_info,
                str(package.path),
                name=package.version,
                pipelineid=pipeline_id,
            ).pipeline_version_id
        except AlreadyThere as error:
            # Another process may have uploaded the same meanwhile.
            if found := self._listed_version(pipeline_id, package.version):
                return found
            label = f"{PIPELINE_LABEL}={pipeline_id}"
            where = f"{PIPELINE}-{package.version} -n {self.namespace or 'kubeflow'}"
            raise SettingsError(
                f"{self.host} does not list the version {package.version} of {PIPELINE}, although it has it.",
                got=error.got,
                expected=f"a version in the list; in Kubernetes-native mode one with the label {label}",
                fix=f"Run `kubectl label pipelineversions.pipelines.kubeflow.org {where} {label}`; KFP's "
                "webhook gives it to objects that are applied while it is there.",
            ) from None

    def _listed_version(self, pipeline_id: str, version: str) -> str | None:
        found = self.pages(
            "list pipeline versions",
            self._pipelines.pipeline_service_list_pipeline_versions_with_http_info,
            "pipeline_versions",
            pipeline_id=pipeline_id,
            filter=_named(version),
        )
        return next((one.pipeline_version_id for one in found if one.display_name == version), None)

    def check_newest(self, pipeline_id: str, package: Package) -> None:
        """Raise SettingsError where the newest version is another than this package."""
        found = self.pages(
            "list pipeline versions",
            self._pipelines.pipeline_service_list_pipeline_versions_with_http_info,
            "pipeline_versions",
            pipeline_id=pipeline_id,
            sort_by="created_at desc",
        )
        newest = next((one.display_name for one in found), "nothing")
        if newest != package.version:
            raise SettingsError(
                f"{package.path} is not the latest version of the pipeline {PIPELINE}.",
                got=f"{package.version}, after which {newest} was uploaded",
                expected="a new package, which would be the latest",
                fix="Compile it again, or leave out --latest to run this version alone.",
            )

    def jobs(self, pipeline_id: str | None) -> list[Any]:
        """The recurring runs of that pipeline; those of other pipelines are left alone."""
        found = self.pages(
            "list schedules",
            self.recurring_runs.recurring_run_service_list_recurring_runs_with_http_info,
            "recurring_runs",
            namespace=self.namespace,
        )
        references = ((job, job.pipeline_version_reference) for job in found)
        return [job for job, ref in references if ref and pipeline_id and ref.pipeline_id == pipeline_id]

    def runs_of(self, job_id: str, experiment_id: str) -> list[Any]:
        """The runs that a recurring run has started and that have not ended."""
        found = self.pages(
            "list runs",
            self.runs.run_service_list_runs_with_http_info,
            "runs",
            namespace=self.namespace,
            experiment_id=experiment_id,
            sort_by="created_at desc",
        )
        return [run for run in found if run.recurring_run_id == job_id and run.state not in ENDED]

    def has_job(self, job_id: str) -> bool:
        """Whether the recurring run is still there."""
        read = self.recurring_runs.recurring_run_service_get_recurring_run_with_http_info
        try:
            self.ask(f"read the schedule {job_id}", read, job_id)
        except NotThere:
            return False
        return True

    def switch_job(self, job: api.V2beta1RecurringRun, enabled: bool) -> None:
        """Have it start runs, or start none."""
        service = self.recurring_runs
        self.ask(
            f"{'resume' if enabled else 'pause'} the schedule {job.display_name} ({job.recurring_run_id})",
            service.recurring_run_service_enable_recurring_run_with_http_info
            if enabled
            else service.recurring_run_service_disable_recurring_run_with_http_info,
            job.recurring_run_id,
        )
        job.mode = api.RecurringRunMode.ENABLE if enabled else api.RecurringRunMode.DISABLE

    def delete_job(self, job: api.V2beta1RecurringRun) -> None:
        self.ask(
            f"delete the schedule {job.display_name} ({job.recurring_run_id})",
            self.recurring_runs.recurring_run_service_delete_recurring_run_with_http_info,
            job.recurring_run_id,
        )

    def _check_health(self) -> str:
        """The server's version. Not through the generated model of the answer, which lacks it."""
        health = self.ask(
            "find Kubeflow Pipelines",
            self._client.call_api,
            "/apis/v2beta1/healthz",
            "GET",
            response_type="object",
            auth_settings=["Bearer"],
        )
        if not isinstance(health, dict):
            raise self._not_kfp(f"an answer of another form: {str(health)[:80]}")
        if health.get("multi_user") and not self.namespace:
            raise SettingsError(
                f"{self.host} keeps the runs of each namespace apart.",
                got="no namespace",
                expected="the namespace of your Kubeflow profile",
                fix="Name it with --namespace.",
            )
        return str(health.get("tag_name") or "")

    def _refused(self, purpose: str, error: api.ApiException) -> DefectlineError:
        message = self._message(error)
        if error.status == 404 and purpose == "find Kubeflow Pipelines":
            return self._not_kfp(f"404, {message}")
        kind, expected, fix = REFUSALS.get(error.status, SERVER_FAULT)
        return kind(
            f"Could not {purpose} at {self.host}.",
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
        line = self._without_token(" ".join(str(body).split()))
        return line if len(line) <= 300 else line[:299] + "…"

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "<token>") if self._token else text

    def _unreachable(self, purpose: str, error: Unanswered) -> DefectlineError:
        reason, fix = error.reason, "Try again later, or correct --host."
        if error.changes:
            fix = "Look in the user interface whether it happened all the same, then try again."
        name = urlsplit(self.host).hostname
        kind: type[DefectlineError] = ServingError
        if isinstance(reason, http.NameResolutionError):
            kind, got = SettingsError, f"no address for the name {name}"
            fix = "Correct --host, or connect to the network that knows the name."
        elif isinstance(reason, http.SSLError):
            kind, got = SettingsError, f"no secure connection: {reason}"
            fix = "Set SSL_CERT_FILE to your certificate authority's file, or use http:// where TLS is off."
        elif isinstance(reason, http.NewConnectionError):
            got = f"no server listens there ({str(reason).rpartition(': ')[2]})"
            fix = "Start the server or its port-forward, or correct --host."
        elif isinstance(reason, http.TimeoutError):
            got = f"no answer within {error.timeout_s} s"
        else:
            got = f"a broken connection: {reason}"
        return kind(
            f"Could not {purpose} at {self.host}.",
            got=got,
            expected="a Kubeflow Pipelines server that answers",
            fix=fix,
        )

    def _not_kfp(self, got: str) -> SettingsError:
        return SettingsError(
            f"{self.host} does not answer as a Kubeflow Pipelines 2 server does.",
            got=self._without_token(got),
            expected=f"the address of its API, such as {HOST_EXAMPLE}",
            fix="Correct --host, and set KFP_TOKEN where the server needs a login.",
        )


REFUSALS: dict[int, tuple[type[DefectlineError], str, str]] = {
    400: (SettingsError, "a request that the server accepts", "Correct what the server names."),
    401: (SettingsError, "a token that is valid now", "Get a new token and set KFP_TOKEN to it."),
    403: (SettingsError, "a token that may do this", "Ask for edit rights, or name another --namespace."),
    404: (NotThere, "something that the server knows", "Check --namespace and --experiment."),
    409: (AlreadyThere, "no other process creating the same at this moment", "Run the command again."),
}
SERVER_FAULT: tuple[type[DefectlineError], str, str] = (
    ServingError,
    "a server in working order",
    "Try again later; `kubectl logs -n kubeflow deployment/ml-pipeline` shows the server's side.",
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
            "This is not the address of a Kubeflow Pipelines server.",
            got="an address with a user name or password" if "@" in host else repr(host),
            expected=f"an address such as {HOST_EXAMPLE}",
            fix="Correct --host.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _checked_token(token: str) -> str:
    token = token.strip()
    # The HTTP library would show a token that it cannot put into a header.
    if not re.fullmatch(r"[!-~]*", token):
        raise SettingsError(
            "The token cannot be sent.",
            got=f"{len(token)} characters with a blank, a line break or a letter outside ASCII",
            expected="one word",
            fix="Set KFP_TOKEN to the token alone, without the word Bearer.",
        )
    return token
