"""Kubernetes' API with Kubeflow Trainer, in little: a TrainJob's pods are processes on loopback.

It checks what it is given with the models of Trainer's own API, and does what Trainer and JobSet do: starts
the command of the TrainJob in every pod with the variables of Trainer's JAX runtime, starts all again when
one is lost, as often as the TrainingRuntime says, and gives up at once at the exit codes that it names.
"""

import json
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import together
import yaml
from commands import SMALL_NETWORK
from kubeflow_trainer_api import models
from paths import ROOT
from servers import free_port

from defectline.components.train.backend.environment import ADDRESS, PROCESS, PROCESSES
from defectline.components.train.cluster.trainjob import INDEX_LABEL, JOBSET_LABEL

Json = dict[str, Any]
PREFIX = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/vision/trainjobs"


def runtime() -> Json:
    """The TrainingRuntime of the manifests, which Trainer's own models accept."""
    (found,) = (
        one
        for one in yaml.safe_load_all((ROOT / "manifests/training/runtime.yaml").read_text())
        if one["kind"] == "TrainingRuntime"
    )
    checked(models.TrainerV1alpha1TrainingRuntime, found)
    return found


def checked(model: Any, content: Json) -> Json:
    """The content, of which the model knows every field and value."""
    kept = model.from_dict(content).to_dict()
    assert without_empty(kept) == without_empty(content)
    return content


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: without_empty(part) for key, part in value.items() if part is not None}
        return {key: part for key, part in found.items() if part != {}}
    return [without_empty(part) for part in value] if isinstance(value, list) else value


class Job:
    """A TrainJob and the processes of its pods."""

    def __init__(self, manifest: Json, folder: Path, path: str):
        self.manifest, self.folder, self.path = manifest, folder, path
        self.attempt, self.conditions = 0, []
        policy = runtime()["spec"]["template"]["spec"]
        (node,) = policy["replicatedJobs"]
        self.most = policy["failurePolicy"]["maxRestarts"]
        rules = node["template"]["spec"]["podFailurePolicy"]["rules"]
        self.hopeless = {code for rule in rules for code in rule["onExitCodes"]["values"]}
        self.start()

    def start(self) -> None:
        trainer = self.manifest["spec"]["trainer"]
        env = {one["name"]: one["value"] for one in trainer["env"]}
        env |= together.ENV | {ADDRESS: f"127.0.0.1:{free_port()}", PROCESSES: str(trainer["numNodes"])}
        self.processes = [
            together.one(
                [*trainer["command"][1:], *trainer["args"]],
                self.log(index),
                env | {PROCESS: str(index), "PYTHONPATH": self.path},
            )
            for index in range(trainer["numNodes"])
        ]

    def log(self, index: int) -> Path:
        return self.folder / f"{self.name(index)}.log"

    def name(self, index: int) -> str:
        return f"{self.manifest['metadata']['name']}-node-0-{index}-{self.attempt}"

    def look(self) -> None:
        """What the controllers do between two moments."""
        codes = [process.poll() for process in self.processes]
        if self.conditions or all(code is None for code in codes):
            return
        if all(code == 0 for code in codes):
            self.end("Complete", "jobset completed successfully")
        elif failed := [code for code in codes if code]:
            if self.hopeless & {*failed}:
                self.end("Failed", "jobset failed due to one or more job failures")
            elif self.attempt >= self.most:
                self.end("Failed", "jobset failed due to reaching max number of restarts")
            else:
                self.kill()
                self.attempt += 1
                self.start()

    def end(self, kind: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": f"JobSet{kind}", "message": message}
        self.conditions = [condition | {"lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}]
        self.kill()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def pods(self) -> list[Json]:
        name, found = self.manifest["metadata"]["name"], []
        for index in range(len(self.processes)):
            labels = {JOBSET_LABEL: name, INDEX_LABEL: str(index)}
            metadata = {"name": self.name(index), "labels": labels}
            found.append({"metadata": metadata, "status": {"phase": "Running"}})
        return found


class TrainerApi:
    """TrainJobs by name. `refusals` by (method, kind) answer in place of the API; `path` is what the pods
    have as PYTHONPATH."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = SMALL_NETWORK["PYTHONPATH"]
        self.jobs: dict[str, Job] = {}
        self.made: list[Json] = []
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.lock = threading.RLock()
        self.url = ""

    @property
    def job(self) -> Job | None:
        return next(iter(self.jobs.values()), None)

    def answer(self, method: str, raw: str, body: Json) -> tuple[int, str]:
        parts = urlsplit(raw)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        kind = "trainjobs" if parts.path.startswith(PREFIX) else "pods"
        if refused := self.refusals.get((method, kind)):
            return refused
        name = parts.path.removeprefix(PREFIX).strip("/")
        for job in self.jobs.values():
            job.look()
        if kind == "pods":
            return self.of_pods(parts.path, query)
        if method == "POST":
            checked(models.TrainerV1alpha1TrainJob, body)
            assert body["spec"]["runtimeRef"]["name"] == runtime()["metadata"]["name"]
            self.jobs[body["metadata"]["name"]] = Job(body, self.folder, self.path)
            self.made.append(body)
            return 201, json.dumps(body)
        if name not in self.jobs:
            return 404, json.dumps({"kind": "Status", "message": f'trainjobs "{name}" not found'})
        job = self.jobs[name]
        if method == "DELETE":
            job.kill()
            del self.jobs[name]
            return 200, json.dumps({"kind": "Status", "status": "Success"})
        content = job.manifest | {"status": {"conditions": job.conditions}}
        models.TrainerV1alpha1TrainJob.from_dict(content)
        return 200, json.dumps(content)

    def of_pods(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        pods = [pod for job in self.jobs.values() for pod in job.pods()]
        if not path.endswith("/log"):
            return 200, json.dumps({"kind": "PodList", "items": pods})
        name = path.split("/")[-2]
        if name not in [pod["metadata"]["name"] for pod in pods]:
            return 404, json.dumps({"message": f'pods "{name}" not found'})
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        # Every line at a time of its own, which grows.
        timed = [f"2026-11-30T00:00:00.{number:09d}Z {line}" for number, line in enumerate(lines, 1)]
        return 200, "\n".join(timed[-int(query.get("tailLines", len(timed))) :])


@contextmanager
def running(folder: Path) -> Iterator[TrainerApi]:
    folder.mkdir(parents=True, exist_ok=True)
    api = TrainerApi(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            try:
                with api.lock:
                    status, text = api.answer(self.command, self.path, body)
            except Exception:  # which the client would take for a server that is away
                status, text = 418, traceback.format_exc()
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        for job in api.jobs.values():
            job.kill()


def wait_for(what: Any, seconds: float = 600.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
