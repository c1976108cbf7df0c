"""The pods of a pipeline's steps, played by processes of this machine: they start, fail and vanish."""

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.api import ApiServer, Json, Target
from cluster.workflows import StepSpec, Vanished, Workflow
from defectline.components.common.reporting.pod import RUN_LABEL

GRACE_S = 0.4
"""After it was told to end, the container of a cancelled run is there for so long."""
LOOK_S = 0.02


class Logs(dict[str, str]):
    """The logs of pods; of a process that runs, what its file has so far."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Path] = {}

    def get(self, pod: str, default: Any = None) -> Any:
        if pod in self.files and self.files[pod].exists():
            return self.files[pod].read_text(errors="replace")
        return super().get(pod, default)

    def __getitem__(self, pod: str) -> str:
        return self.get(pod, "")


class StepPods:
    """Runs steps in `namespace`; `images` are those that a registry has, `env` what every pod has besides."""

    def __init__(
        self, api: ApiServer, namespace: str, folder: Path, images: Collection[str], env: Mapping[str, str]
    ):
        self.api, self.namespace, self.folder = api, namespace, folder
        self.images, self.env = images, dict(env)
        self.logs = Logs()
        api.logs = self.logs
        self._numbers = itertools.count(1)
        self._deleted: set[str] = set()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._closed = threading.Event()

    def deleted(self, target: Target) -> None:
        """To be called where an object was deleted."""
        if target.plural == "pods":
            self._deleted.add(target.name)

    def close(self) -> None:
        """End every process."""
        self._closed.set()
        for process in list(self._running.values()):
            _kill(process)

    def run(self, workflow: Workflow, step: StepSpec) -> bool:
        """Play one pod of a step to its end; whether it went well. Raises Vanished."""
        pod = f"{workflow.name}-system-container-impl-{next(self._numbers):010}"
        step.node.pods.append(pod)
        self._put(workflow, step, pod, "Pending", {"waiting": {"reason": "ContainerCreating"}})
        image = step.container["image"]
        env, missing = self._environment(workflow, step, pod)
        if missing:
            why = f'secret "{missing}" not found'
            self._put(workflow, step, pod, "Pending", _waiting("CreateContainerConfigError", why))
            self._event(pod, "Warning", "Failed", f"Error: {why}")
            return self._stays(workflow, step, pod)
        if image not in self.images:
            why = f'Back-off pulling image "{image}": not found'
            self._put(workflow, step, pod, "Pending", _waiting("ImagePullBackOff", why))
            self._event(pod, "Warning", "Failed", f'Failed to pull image "{image}": not found')
            return self._stays(workflow, step, pod)
        self._event(pod, "Normal", "Scheduled", f"Successfully assigned {self.namespace}/{pod} to stand-in")
        place = self.folder / pod
        place.mkdir(parents=True)
        self.logs.files[pod] = place / "log"
        self._put(workflow, step, pod, "Running", {"running": {}})
        arguments = [json.dumps(step.input) if one == "{{$}}" else one for one in step.container["args"]]
        with self._process([*step.container["command"], *arguments], env, place) as process:
            self._running[pod] = process
            status = self._wait(workflow, step, pod, process)
        self._running.pop(pod, None)
        if pod in self._deleted:
            raise Vanished
        reason = "Completed" if status == 0 else "Error"
        ended = {"terminated": {"exitCode": status, "reason": reason}}
        self._put(workflow, step, pod, "Succeeded" if status == 0 else "Failed", ended)
        return status == 0

    def _wait(self, workflow: Workflow, step: StepSpec, pod: str, process: subprocess.Popen[bytes]) -> int:
        while process.poll() is None:
            if pod in self._deleted or workflow.lost.is_set() or self._closed.is_set():
                _kill(process)
            elif workflow.cancelled.is_set() and step.node.name != "finish":
                process.terminate()
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    _kill(process)
                return 143
            self._closed.wait(LOOK_S)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _stays(self, workflow: Workflow, step: StepSpec, pod: str) -> bool:
        """A pod that never starts is there until the run is stopped: the step's own time is hours."""
        while not (workflow.cancelled.is_set() or workflow.lost.is_set() or self._closed.is_set()):
            if pod in self._deleted:
                raise Vanished
            self._closed.wait(LOOK_S)
        self.api.remove("pods", self.namespace, pod)
        return False

    @contextmanager
    def _process(
        self, command: list[str], env: dict[str, str], place: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            _kill(process)

    def _environment(self, workflow: Workflow, step: StepSpec, pod: str) -> tuple[dict[str, str], str]:
        """The variables of the container, and a secret that it misses, or ''."""
        python = Path(sys.executable).parent
        env = {"PATH": f"{python}:{os.environ['PATH']}", "LANG": "C.UTF-8", "KFP_POD_NAME": pod, **self.env}
        env |= {one["name"]: one["value"] for one in step.container.get("env", [])}
        env["HOME"] = str(self.folder)  # /tmp, which in a container is its own
        labels = {RUN_LABEL: workflow.run_id}
        for wanted in step.platform.get("fieldPathAsEnv", []):
            key = wanted["fieldPath"].removeprefix("metadata.labels['").removesuffix("']")
            env[wanted["name"]] = labels[key]
        for wanted in step.platform.get("secretAsEnv", []):
            secret = self.api.find("secrets", self.namespace, wanted["secretName"])
            if secret is None:
                if wanted.get("optional"):
                    continue
                return env, wanted["secretName"]
            for pair in wanted["keyToEnv"]:
                env[pair["envVar"]] = base64.b64decode(secret["data"][pair["secretKey"]]).decode()
        return env, ""

    def _put(self, workflow: Workflow, step: StepSpec, pod: str, phase: str, state: Json) -> None:
        labels = {
            RUN_LABEL: workflow.run_id,
            "workflows.argoproj.io/workflow": workflow.name,
            "pipelines.kubeflow.org/v2_component": "true",
            **step.platform.get("podMetadata", {}).get("labels", {}),
        }
        node = f"{workflow.name}.{step.node.name}.system-container-executor"
        main = {"name": "main", "image": step.container["image"]}
        args = ["--function_to_execute", step.container["args"][-1]]
        ready = "running" in state
        status = {"name": "main", "state": state, "ready": ready, "restartCount": 0, "image": main["image"]}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"labels": labels, "annotations": {"workflows.argoproj.io/node-name": node}},
            "spec": {"containers": [{**main, "args": args}], "nodeName": "stand-in"},
            "status": {"phase": phase, "containerStatuses": [{**status, "imageID": ""}]},
        }
        if pod not in self._deleted:
            self.api.put("pods", self.namespace, pod, body)

    def _event(self, pod: str, kind: str, reason: str, message: str) -> None:
        put_event(self.api, self.namespace, "Pod", pod, kind, reason, message)


def put_event(
    api: ApiServer, namespace: str, subject_kind: str, subject: str, kind: str, reason: str, message: str
) -> None:
    """Have the cluster say something about an object, as `kubectl get events` shows it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "type": kind,
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": subject_kind, "name": subject, "namespace": namespace},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    count = sum(key[0] == "events" for key in list(api.objects))
    api.put("events", namespace, f"{subject}.{count:x}", body)


def _waiting(reason: str, message: str) -> Json:
    return {"waiting": {"reason": reason, "message": message}}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
