"""A whole cluster on this machine, for the suite: S3, Kubernetes with KServe, Kubeflow Pipelines.

The steps of a run, the served pods and the line's pods are processes; what a kubelet, a scheduler and the
controllers say of them is played as the real ones say it. Nothing here knows a test.
"""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kfp_api
import kfp_server_api as kfp
import requests
from cluster.admission import storage_container
from cluster.api import KINDS, ApiServer
from cluster.controller import Controller
from cluster.endpoint import Endpoint
from cluster.schemas import Failure, Json, Target
from cluster.step_pods import StepPods
from cluster.workflows import Node, Workflow
from kfp_api import PREFIX, KfpApi, Refused, Request
from servers import S3Server, free_port

from defectline.components.common.storage import Storage, open_storage
from defectline.pipeline.images import TARGETS, reference, variable

MINUTE_S = 6.0
"""What a minute of a schedule takes."""
STEPS = "kubeflow"
CORES = "4"
ABOUT_THE_SUITE = ("E2E_STAND_IN", "E2E_RESULTS", "E2E_KEEP")
"""Variables that count whichever the cluster is."""
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
"""What the server gives as the end of what has not ended."""
PLAIN = {
    ("", "v1", "namespaces"): "Namespace",
    ("", "v1", "nodes"): "Node",
    ("", "v1", "configmaps"): "ConfigMap",
    ("rbac.authorization.k8s.io", "v1", "roles"): "Role",
    ("rbac.authorization.k8s.io", "v1", "rolebindings"): "RoleBinding",
    ("networking.k8s.io", "v1", "networkpolicies"): "NetworkPolicy",
}
"""Kinds that the suite applies, of which this cluster only keeps the objects."""


class Api(ApiServer):
    """An API server that namespaces and their contents can be applied to."""

    def answer(
        self, method: str, raw: str, token: str, content_type: str, body: Json | None
    ) -> tuple[int, Json | str, list[str]]:
        path, _, query = raw.partition("?")
        if content_type.startswith("application/apply-patch"):
            return self._apply(path, body or {}, "dryRun=All" in query)
        found = re.fullmatch(r"/api/v1/(namespaces|nodes)(?:/([^/]+))?", path)
        if found is None:
            return super().answer(method, raw, token, content_type, body)
        plural, name = found.groups()
        self.requests.append(f"{method} {raw}")
        if name is None:
            items = [one for key, one in list(self.objects.items()) if key[0] == plural]
            return 200, {"kind": "List", "apiVersion": "v1", "items": items, "metadata": {}}, []
        there = self.find(plural, "", name)
        if there is None:
            return 404, Failure(404, "NotFound", f'{plural} "{name}" not found').body(), []
        if method == "DELETE":
            with self.lock:
                for key in [key for key in self.objects if key[1] == name]:
                    target = Target(*_group(key[0]), key[0], *key[1:])
                    self.remove(*key)
                    self.on_write(target, None)
                self.remove(plural, "", name)
        return 200, there, []

    def _apply(self, path: str, body: Json, dry: bool) -> tuple[int, Json, list[str]]:
        metadata = body["metadata"]
        plural, namespace = path.split("/")[-2], metadata.get("namespace", "")
        if all(plural != kind[2] for kind in KINDS | PLAIN):
            return 404, "404 page not found\n", []
        if namespace and self.find("namespaces", "", namespace) is None:
            return 404, Failure(404, "NotFound", f'namespaces "{namespace}" not found').body(), []
        if not dry:
            self.put(plural, namespace, metadata["name"], json.loads(json.dumps(body)))
            if self.namespaces is not None and plural == "namespaces":
                self.namespaces.add(metadata["name"])
            self.on_write(Target(*_group(plural), plural, namespace, metadata["name"]), body)
        return 200, body, []


def _group(plural: str) -> tuple[str, str]:
    return next(kind[:2] for kind in (KINDS | PLAIN) if kind[2] == plural)


class Served(Endpoint):
    """Pods of KServe: a predictor process for each version that is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.store: Callable[[], Storage]
        self.processes: dict[tuple[str, str], tuple[str, subprocess.Popen[bytes]]] = {}
        self._starting = threading.Lock()

    def answer(self, host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        model = path.split("/")[3].removesuffix(":predict")
        version = self._version(host, model, path)
        if version is None:
            return 404, {"error": "no such model"}
        with self._starting:
            url = self._start(model, version)
        method = "POST" if picture else "GET"
        kind = "application/json" if picture[:1] == b"{" else "image/png"
        try:
            answered = requests.request(
                method,
                url + path,
                data=picture,
                headers={"Content-Type": kind} if picture else {},
                timeout=60,
            )
        except requests.ConnectionError:
            return 503, {"error": "no pod is ready"}
        return answered.status_code, answered.json()

    def _start(self, model: str, version: str) -> str:
        """The URL of a predictor that has loaded the version."""
        key = model, version
        if key not in self.processes:
            place = self.folder / model / version
            self.store().download_folder(f"serving/{model.removesuffix('-candidate')}/{version}", place)
            port = free_port()
            command = [sys.executable, "-m", "defectline.components.serve", "--model_dir", str(place)]
            command += ["--model_name", model, "--http_port", str(port), "--drain_ms", "0"]
            with (self.folder / f"{model}-{version}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            self.processes[key] = f"http://127.0.0.1:{port}", process
            self._wait(*self.processes[key], model)
        return self.processes[key][0]

    def _wait(self, url: str, process: subprocess.Popen[bytes], model: str) -> None:
        while process.poll() is None:
            try:
                if requests.get(f"{url}/v2/models/{model}/ready", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                threading.Event().wait(0.1)

    def close(self) -> None:
        for _, process in self.processes.values():
            process.terminate()
        for _, process in self.processes.values():
            process.wait()


class KServe(Controller):
    """A controller whose kubelet knows which images there are."""

    images: frozenset[str] = frozenset()

    def script(self, name: str, version: str) -> str:
        services = [key for key in list(self.api.objects) if key[0] == "inferenceservices"]
        if any(self.image(where, one) not in self.images for _, where, one in services if one == name):
            return "image"
        return super().script(name, version)


class LinePods:
    """Pods that the suite makes by itself: their command runs on this machine, on the cluster's network."""

    def __init__(self, api: Api, folder: Path, proxy: str, logs: Any):
        self.api, self.folder, self.proxy, self.logs = api, folder, proxy, logs
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def on_write(self, target: Target, new: Json | None) -> None:
        key = target.namespace, target.name
        if target.plural != "pods":
            return
        if new is None:
            if process := self._processes.pop(key, None):
                process.kill()
                process.wait()
            return
        [container] = new["spec"]["containers"]
        env = {one["name"]: one["value"] for one in container.get("env", [])}
        python = Path(sys.executable).parent
        env |= {"PATH": f"{python}:{os.environ['PATH']}", "http_proxy": self.proxy}
        log = self.folder / f"{target.namespace}-{target.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(container["command"], env=env, stdout=output, stderr=subprocess.STDOUT)
        self._processes[key] = process
        self.logs.files[target.name] = log

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


class Pipelines(KfpApi):
    """Kubeflow Pipelines whose runs really run."""

    def start(self, folder: Path, pods: StepPods) -> None:
        self.folder, self.pods = folder, pods
        self.workflows: dict[str, Workflow] = {}
        self.cache: Json = {}
        self.threads: list[threading.Thread] = []
        self.ended = threading.Event()
        self._schedule(self._fire)

    def _schedule(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self.threads.append(thread)
        thread.start()

    def close(self) -> None:
        self.ended.set()
        for workflow in list(self.workflows.values()):
            workflow.lost.set()
        self.pods.close()
        for thread in self.threads:
            thread.join()

    def answer(self, request: Request, upload: bytes | None) -> Any:
        own: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", "/runs", self.begin),
            ("GET", "/runs", self.listed),
            ("GET", "/runs/([^/]+)", self.told),
            ("POST", "/runs/([^/]+):terminate", self.stop),
            ("DELETE", "/runs/([^/]+)", self.forget),
            ("DELETE", "/experiments/([^/]+)", self.forget_experiment),
        ]
        for method, pattern, handle in own:
            match = re.fullmatch(PREFIX + pattern, request.path)
            if match and method == request.method:
                if self.token and request.token != f"Bearer {self.token}":
                    break
                return handle(request, *match.groups())
        return super().answer(request, upload)

    def begin(self, request: Request) -> Any:
        return self._begin(kfp_api.read("V2beta1Run", request.body))

    def _begin(self, run: Any) -> Any:
        self._check_source(run)
        run.run_id = str(uuid.uuid4())
        run.created_at = datetime.now(UTC)
        self.runs[run.run_id] = run
        spec = run.pipeline_spec or self._spec(run.pipeline_version_reference)
        given = (run.runtime_config.parameters if run.runtime_config else None) or {}
        name = f"defectline-{run.run_id[:5]}"
        workflow = Workflow(
            run.run_id, name, spec, given, self.folder / run.run_id, self.pods.run, self.cache
        )
        self.workflows[run.run_id] = workflow
        run.state = "PENDING"
        self._schedule(workflow.run)
        return run

    def _spec(self, reference: Any) -> Json:
        versions = [one for one in self.versions.values() if one.pipeline_id == reference.pipeline_id]
        wanted = reference.pipeline_version_id
        newest = max(versions, key=lambda one: one.created_at)
        return next((one for one in versions if one.pipeline_version_id == wanted), newest).pipeline_spec

    def _fresh(self, run: Any) -> Any:
        workflow = self.workflows[run.run_id]
        run.state = workflow.state
        run.finished_at = workflow.ended or BEGINNING
        run.run_details = kfp.V2beta1RunDetails(
            task_details=[_detail(run.run_id, workflow, node) for node in list(workflow.nodes)]
        )
        return run

    def told(self, request: Request, run_id: str) -> Any:
        return self._fresh(kfp_api.known(self.runs, run_id, "Run"))

    def listed(self, request: Request) -> Any:
        wanted = request.query.get("experiment_id", "")
        newest_first = request.query.get("sort_by") == "created_at desc"
        runs = sorted(self.runs.values(), key=lambda run: run.created_at, reverse=newest_first)
        runs = [self._fresh(run) for run in runs if wanted in ("", run.experiment_id)]
        return self._page(runs, request, kfp.V2beta1ListRunsResponse)

    def stop(self, request: Request, run_id: str) -> Any:
        kfp_api.known(self.runs, run_id, "Run")
        self.workflows[run_id].cancelled.set()
        return {}

    def forget(self, request: Request, run_id: str) -> Any:
        kfp_api.known(self.runs, run_id, "Run")
        self.workflows[run_id].lost.set()
        del self.runs[run_id]
        return {}

    def forget_experiment(self, request: Request, experiment_id: str) -> Any:
        kfp_api.known(self.experiments, experiment_id, "Experiment")
        if any(run.experiment_id == experiment_id for run in self.runs.values()):
            raise Refused(400, "the experiment has runs")
        del self.experiments[experiment_id]
        return {}

    def delete_recurring_run(self, request: Request, upload: None, job_id: str) -> Any:
        kfp_api.known(self.recurring_runs, job_id, "Job")
        for run in self.runs.values():
            # It owns its workflows: they are collected with it, and nobody tells the server.
            if run.recurring_run_id == job_id:
                self.workflows[run.run_id].lost.set()
        del self.recurring_runs[job_id]
        return {}

    def _fire(self) -> None:
        """Start what the schedules say, every minute, one at a time each."""
        while not self.ended.wait(MINUTE_S):
            for job in list(self.recurring_runs.values()):
                under_way = [
                    run
                    for run in list(self.runs.values())
                    if run.recurring_run_id == job.recurring_run_id
                    and self.workflows[run.run_id].ended is None
                ]
                if job.mode != "ENABLE" or under_way:
                    continue
                self._begin(
                    kfp.V2beta1Run(
                        display_name=f"{job.display_name}-{datetime.now(UTC):%H%M%S}",
                        experiment_id=job.experiment_id,
                        pipeline_version_reference=job.pipeline_version_reference,
                        runtime_config=job.runtime_config,
                        recurring_run_id=job.recurring_run_id,
                    )
                )


def _detail(run_id: str, workflow: Workflow, node: Node) -> Any:
    """A task as the server tells of it: alike creation times, and an end long ago while it runs."""
    return kfp.V2beta1PipelineTaskDetail(
        run_id=run_id,
        task_id=node.id,
        display_name=node.name,
        create_time=workflow.began,
        start_time=node.began or workflow.began,
        end_time=node.ended or BEGINNING,
        state=node.state,
    )


def environment(shell: Mapping[str, str], cluster: Mapping[str, str]) -> dict[str, str]:
    """The shell's variables without those that lead to another cluster, and with those of this one. Pure."""
    theirs = ("AWS_", "E2E_", "KFP_", "DEFECTLINE_IMAGE_", "KUBERNETES_SERVICE_")
    left = {
        name: value for name, value in shell.items() if name in ABOUT_THE_SUITE or not name.startswith(theirs)
    }
    # Otherwise a lock file would name images that this cluster does not know.
    return left | {variable(target): reference(target) for target in TARGETS} | dict(cluster)


@contextmanager
def stand_in(servers: S3Server, folder: Path) -> Iterator[None]:
    """Play a cluster until the block ends; the environment names it as the suite expects."""
    api, pipelines, served = Api(), Pipelines(), Served(folder / "served")
    images = frozenset(reference(target) for target in TARGETS)
    store = f"s3://{servers.new_bucket()}/suite"
    served.inside = True
    with ExitStack() as stack:
        stack.enter_context(api.running())
        stack.enter_context(served.running())
        stack.enter_context(kfp_api.running(pipelines))
        kubeconfig = folder / "kubeconfig"
        api.write_kubeconfig(kubeconfig)
        for name in (STEPS, "default"):
            api.put("namespaces", "", name, {"apiVersion": "v1", "kind": "Namespace"})
        api.put("nodes", "", "node-1", {"kind": "Node", "status": {"allocatable": {"cpu": CORES}}})
        # What an administrator does once a cluster.
        api.put("clusterstoragecontainers", "", "default", storage_container("patched"))
        env = {
            "KUBECONFIG": str(kubeconfig),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        pods = StepPods(api, STEPS, folder / "steps", images, env)
        (folder / "steps").mkdir()
        controller = KServe(api, served)
        controller.images = images
        line = LinePods(api, folder, served.url, pods.logs)
        stack.callback(served.close)
        stack.callback(line.close)
        stack.callback(pipelines.close)
        kserve_writes = api.on_write

        def on_write(target: Target, new: Json | None) -> None:
            kserve_writes(target, new)
            if target.namespace == STEPS:
                if new is None:
                    pods.deleted(target)
            else:
                line.on_write(target, new)

        api.on_write = on_write
        pipelines.start(folder / "runs", pods)
        mine: Mapping[str, str] = {
            **{key: value for key, value in servers.env.items() if key != "AWS_ENDPOINT_URL"},
            "AWS_ENDPOINT_URL_S3": servers.url,
            "KUBECONFIG": str(kubeconfig),
            "KFP_HOST": pipelines.host,
            "E2E_STORE": store,
            "E2E_S3_ENDPOINT": servers.url,
            "E2E_MINUTE_S": str(MINUTE_S),
            "E2E_SIZE": "32",
        }
        with patch.dict(os.environ, environment(os.environ, mine), clear=True):
            suite_store: dict[str, Storage] = {}

            def find_store() -> Storage:
                """The store of the suite's model, whose folder has a name of its own."""
                if not suite_store:
                    [found] = {key.key.split("/")[0] for key in open_storage(store).list("")}
                    suite_store["it"] = open_storage(f"{store}/{found}/store")
                return suite_store["it"]

            served.store = find_store
            yield
