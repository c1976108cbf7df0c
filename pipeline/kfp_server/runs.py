"""Start runs on a Kubeflow Pipelines server, follow them, and list them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Any

import kfp_server_api as api

from defectline.components.common.errors import DefectlineError
from defectline.components.common.steps import Say
from defectline.pipeline import PIPELINE
from defectline.pipeline.catalog.runs import RunRow, minutes
from defectline.pipeline.kfp_server import reasons
from defectline.pipeline.kfp_server.client import ENDED, NotThere, Server
from defectline.pipeline.kfp_server.following import Follower, Look, Watch, find_run, page, why_lost
from defectline.pipeline.kfp_server.package import read_package

LOST = "LOST"
"""The state of a run that the server takes to be under way, though nothing works on it any more."""


@dataclass(frozen=True)
class RunResult:
    """A run as it was last seen; `state` is KFP's, such as PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED."""

    run_id: str
    url: str
    state: str
    reason: str = ""
    """Why it ended so, as far as the store or Kubernetes knows; empty for one that was not waited for."""
    detail: str = ""
    """What to do about it."""


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
    look: Look | None = None,
    pipeline: str = PIPELINE,
) -> RunResult:
    """Create a run of the compiled `pipeline`, and with `wait` follow it to its end, as `Follower` does.

    A run that fails or is cancelled is not an error here: its state is returned.

    Raises SettingsError or ServingError for a package, parameter, address or token that the user can
    fix, for a server that does not answer, and as `Follower` does.
    """
    compiled = read_package(package, parameters, pipeline)
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
    url = page(server, run.run_id)
    say(f"run {name}: {url}")
    if not wait:
        return RunResult(run.run_id, url, run.state or "PENDING")
    follower = Follower(server, timeout_s=timeout_s, poll_s=poll_s, say=say, watch=watch, look=look)
    state = follower.follow(run.run_id, compiled.steps)
    return _result(server, run.run_id, state, str(parameters.get("store") or ""), namespace, look)


def follow(
    start: str,
    *,
    host: str,
    namespace: str = "",
    token: str = "",
    timeout_s: float = 86_400.0,
    poll_s: float = 2.0,
    say: Say = print,
    watch: Watch | None = None,
    look: Look | None = None,
) -> RunResult:
    """Follow a run that was started before, by its id, the start of it, or its name, to its end.

    Raises SettingsError where there is no such run, and as `Follower` does.
    """
    server = Server(host, namespace, token)
    run = find_run(server, start)
    say(f"run {run.display_name}: {page(server, run.run_id)}")
    follower = Follower(server, timeout_s=timeout_s, poll_s=poll_s, say=say, watch=watch, look=look)
    state = follower.follow(run.run_id)
    return _result(server, run.run_id, state, reasons.find_store(run), namespace, look)


def _result(
    server: Server, run_id: str, state: str, store: str, namespace: str, look: Look | None
) -> RunResult:
    reason = reasons.explain(store, run_id)
    if not reason and state != "SUCCEEDED":
        asked = reasons.ask_kubernetes(run_id, namespace) if look else ""
        reason = asked or reasons.how_to_look(server, run_id)
    detail = "" if state == "SUCCEEDED" else reasons.detail(store, run_id)
    return RunResult(run_id, page(server, run_id), state, reason, detail)


def list_cluster_runs(host: str, namespace: str, token: str, limit: int) -> list[RunRow]:
    """The last `limit` runs of the pipeline `defectline` on a server, the newest first.

    Each that failed has the reason that its own store knows, where that can be read from here.

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
    return [_row(server, run) for run in islice(_ours(found, pipeline_id), limit)]


def find_ended(run_ids: Iterable[str], *, host: str, namespace: str, token: str, say: Say) -> set[str]:
    """Those of the runs that have ended or were lost, as far as the server knows them; `say` gets why.

    Where it cannot be asked, `say` gets that, and nothing is known of those that are left.
    """
    ended = set()
    try:
        server = Server(host, namespace, token)
        for run_id in run_ids:
            try:
                run = server.ask("read a run", server.runs.run_service_get_run_with_http_info, run_id)
            except NotThere:
                continue
            if why := why_lost(server, run) or (run.state in ENDED and "it ended without an outcome"):
                ended.add(run_id)
                say(f"{run_id}, {run.state} on the server, is not under way: {why}")
    except DefectlineError as error:
        say(f"{error.what} Got {error.got}. What is unfinished counts as under way.")
    return ended


def _ours(runs: Iterator[Any], pipeline_id: str | None) -> Iterator[Any]:
    for run in runs:
        reference = run.pipeline_version_reference
        if _name_in(run.pipeline_spec) == PIPELINE or (
            reference and pipeline_id and reference.pipeline_id == pipeline_id
        ):
            yield run


def _name_in(spec: Any) -> Any:
    """The pipeline's name in the specification that a run has of its own, if it has one. Pure."""
    if not isinstance(spec, dict):
        return None
    # Uploaded with settings for Kubernetes, it lies one level deeper.
    about = spec.get("pipeline_spec", spec)
    about = about.get("pipelineInfo") if isinstance(about, dict) else None
    return about.get("name") if isinstance(about, dict) else None


def _row(server: Server, run: Any) -> RunRow:
    # A server gives a run that has not ended a time before all others.
    ended = run.finished_at if run.finished_at and run.finished_at >= run.created_at else None
    state, reason = run.state or "PENDING", ""
    if why := why_lost(server, run):
        state, reason = LOST, f"nothing works on it: {why}"
    elif state in ENDED and state != "SUCCEEDED":
        reason = reasons.explain(reasons.find_store(run), run.run_id)
    return RunRow(
        run.run_id,
        run.display_name,
        run.created_at.astimezone(UTC).isoformat(timespec="seconds"),
        minutes(run.created_at, ended) if ended else None,
        state,
        reason,
        "",
    )
