"""What the tests of a cluster share: its namespace, its store, commands as a user types them, and clients."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from commands import defectline
from networks import write_source
from paths import ROOT

from defectline.components.common.bundle import Bundle
from defectline.components.common.records import Outcome, read_outcome
from defectline.components.common.reporting.step_record import StepRecord, read_steps
from defectline.components.common.storage import Storage, open_storage
from e2e.cleaning import Cleaner
from e2e.knobs import Knobs, own_environment
from e2e.kube import LABEL, Json, Kube, wait
from e2e.weights import TRAINING, save_weights

QUICK = ("epochs=2", "batch_size=8", "quantize=false", "pretraining=none", TRAINING)
WEIGHTS = "known.keras"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
ASKING = """
import base64, json, os, sys, time, urllib.request
image = base64.b64decode(os.environ["IMAGE"])
asked = failed = 0
versions, why = {}, ""
while True:
    asked += 1
    request = urllib.request.Request(os.environ["ADDRESS"], image, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)["predictions"][0]
        versions[found["model_version"]] = versions.get(found["model_version"], 0) + 1
    except Exception as error:
        failed, why = failed + 1, repr(error)
    print(json.dumps({"asked": asked, "failed": failed, "versions": versions, "why": why}), flush=True)
    time.sleep(0.1)
"""
"""Asks the endpoint again and again, without any retry, and says after each time how it went."""


@dataclass
class Suite:
    knobs: Knobs
    kube: Kube
    folder: Path
    cleaner: Cleaner = field(default_factory=Cleaner)
    versions: list[str] = field(default_factory=list)
    """That were deployed, the first first."""
    runs: list[str] = field(default_factory=list)
    """On the server, the first first."""
    package: Path = Path("pipeline.yaml")
    """The compiled pipeline."""
    expected_events: set[str] = field(default_factory=set)
    """Words of events that a test brought about on purpose."""

    # Places.

    @property
    def store_uri(self) -> str:
        return f"{self.knobs.folder}/store"

    @property
    def source_uri(self) -> str:
        return f"{self.knobs.folder}/labelled"

    @cached_property
    def store(self) -> Storage:
        return open_storage(self.store_uri)

    def outcome(self, run: str) -> Outcome | None:
        return read_outcome(self.store, run)

    def steps(self, run: str) -> list[StepRecord]:
        return read_steps(self.store, run)

    def champion(self) -> str:
        """The version that the InferenceService names; "" for none."""
        service = self.kube.find("InferenceService", self.knobs.namespace, self.knobs.model)
        label = "defectline.dev/model-version"
        return service["spec"]["predictor"].get("labels", {}).get(label, "") if service else ""

    # Making what the suite needs, each with how it is removed.

    def make_namespace(self, name: str, **labels: str) -> None:
        metadata = {"name": name, "labels": {LABEL: self.knobs.suffix, **labels}}
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.cleaner.add(f"namespace {name}", lambda: self.kube.remove_namespace(name, 300))

    def make_secret(self, namespace: str, name: str, **annotations: str) -> None:
        values = {key: base64.b64encode(os.environ[key].encode()).decode() for key in KEYS}
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": {LABEL: self.knobs.suffix},
            "annotations": annotations,
        }
        self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": values})
        self.cleaner.add(f"secret {name} in {namespace}", lambda: self.kube.delete("Secret", namespace, name))

    def make_source(self) -> None:
        """24 pairs, the five more that come later, and the weights that know them."""
        all_of_them = write_source(self.folder / "drawn", pairs=34, seed=3, size=self.knobs.size)
        first, more = self.folder / "first", self.folder / "more"
        for label in ("OK", "NG"):
            images = sorted((all_of_them / label).iterdir())
            masks = sorted((all_of_them / f"{label}_MSK").iterdir())
            extra = 2 if label == "OK" else 3
            for count, (image, mask) in enumerate(zip(images, masks, strict=True)):
                if count >= 12 + extra:
                    break
                place = first if count < 12 else more
                for source, part in ((image, label), (mask, f"{label}_MSK")):
                    target = place / part / source.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read_bytes())
        open_storage(self.source_uri).upload_folder(first, "")
        save_weights(self.folder / WEIGHTS, self.knobs.size)
        open_storage(self.knobs.folder).upload(self.folder / WEIGHTS, WEIGHTS)

    def add_pairs(self) -> None:
        open_storage(self.source_uri).upload_folder(self.folder / "more", "")

    def picture(self, label: str) -> bytes:
        return sorted((self.folder / "first" / label).iterdir())[0].read_bytes()

    def rendered(self, overlay: str) -> list[Json]:
        """What `kubectl apply -k` would apply, in the suite's own namespace."""
        own = self.folder / f"overlay-{overlay.replace('/', '-')}"
        own.mkdir(exist_ok=True)
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.knobs.namespace,
            "resources": [os.path.relpath(ROOT / "manifests" / overlay, own.resolve())],
        }
        (own / "kustomization.yaml").write_text(yaml.safe_dump(content))
        kubectl = Path(sys.executable).with_name("kubectl")
        done = subprocess.run([kubectl, "kustomize", own], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    def apply_manifests(self) -> int:
        """Apply the overlay, but for kinds that the cluster lacks; how many objects that were."""
        groups = {"v1", *self.kube.groups(), "rbac.authorization.k8s.io", "networking.k8s.io"}
        rendered = self.rendered(f"overlays/{self.knobs.overlay}")
        made = [one for one in rendered if one["apiVersion"].partition("/")[0] in groups]
        self.make_namespace(
            self.knobs.namespace,
            **next(one for one in made if one["kind"] == "Namespace")["metadata"].get("labels", {}),
        )
        for one in made:
            if one["kind"] == "Namespace":
                continue
            if one["kind"] == "RoleBinding":
                for subject in one["subjects"]:
                    subject["namespace"] = self.knobs.steps_namespace
            if one["kind"] == "NetworkPolicy":
                one = _replaced(one, "kubeflow", self.knobs.steps_namespace)
            self.kube.apply(one)
        return len(made)

    # Commands, as a user types them.

    def command(self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 0) -> Any:
        done = defectline(
            *arguments, env={**own_environment(), **(env or {})}, timeout=timeout or self.knobs.timeout_s + 60
        )
        with (self.folder / "commands.log").open("a") as log:
            shown = " ".join(arguments)
            log.write(f"$ defectline {shown}\n{done.stdout}{done.stderr}[exit {done.returncode}]\n\n")
        return done

    def compile(self, name: str, *more: str, env: dict[str, str] | None = None) -> Path:
        package = self.folder / f"{name}.yaml"
        options = ["-o", str(package), "--namespace", self.knobs.namespace, "--gpus", "0"]
        options += ["--service-account", "defectline-models", "--resources", self.knobs.resources]
        if "--s3-secret" not in more:
            options += ["--s3-secret", f"e2e-{self.knobs.suffix}-s3"]
        if self.knobs.s3_endpoint:
            options += ["--s3-endpoint", self.knobs.s3_endpoint]
        done = self.command("compile", *options, "--kserve", "timeout_s=300", *more, env=env)
        assert done.returncode == 0, explain(done)
        return package

    @property
    def settings(self) -> list[str]:
        """What the champion was made with."""
        return [*QUICK, f"image_size={self.knobs.size}", f"init_from={self.knobs.folder}/{WEIGHTS}"]

    def submit(
        self, package: Path, *settings: str, source: str = "", wait: bool = True, fail_on_gate: bool = False
    ) -> Any:
        """`defectline submit`; with `wait` to the end of the run."""
        pairs = [*self.settings, *settings]
        options = ["--source", source or self.source_uri, "--store", self.store_uri]
        options += ["--name", self.knobs.model, "--package", str(package), "--experiment", self.knobs.model]
        options += ["--timeout", str(self.knobs.timeout_s)] + (["--wait"] if wait else [])
        options += ["--fail-on-gate"] if fail_on_gate else []
        options += [part for pair in pairs for part in ("--set", pair)]
        done = self.command("submit", *options)
        if found := re.search(r"runs/details/([0-9a-f-]{36})", done.stdout + done.stderr):
            self.runs.append(found[1])
        return done

    @property
    def last_run(self) -> str:
        return self.runs[-1]

    # Clients.

    @property
    def address(self) -> str:
        """Of the model, from within the cluster."""
        service = f"{self.knobs.model}-predictor.{self.knobs.namespace}.svc.cluster.local"
        return f"http://{service}/v1/models/{self.knobs.model}:predict"

    def ask_from_outside(self, image: bytes) -> Json:
        """The prediction, through the gateway or else through the API server."""
        path = f"v1/models/{self.knobs.model}:predict"
        if self.knobs.gateway:
            import httpx

            service = self.kube.find("InferenceService", self.knobs.namespace, self.knobs.model)
            assert service is not None
            host = service["status"]["url"].removeprefix("http://").removeprefix("https://")
            answer = httpx.post(
                f"{self.knobs.gateway}/{path}",
                content=image,
                headers={"Host": host, "Content-Type": "image/png"},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            return answer.json()["predictions"][0]
        body = {"instances": [{"image": {"b64": base64.b64encode(image).decode()}}]}
        place = self.kube.path("Pod", self.knobs.namespace).removesuffix("pods")
        proxy = f"{place}services/{self.knobs.model}-predictor:80/proxy/{path}"
        return self.kube.request("POST", proxy, body)["predictions"][0]

    @contextmanager
    def asking_pod(self, name: str, image: bytes) -> Iterator[Callable[[], Json]]:
        """A pod of the line that asks all the time; yields what tells how it went so far."""
        container = {
            "name": "line",
            "image": self.image,
            "command": ["python3", "-c", ASKING],
            "env": [
                {"name": "ADDRESS", "value": self.address},
                {"name": "IMAGE", "value": base64.b64encode(image).decode()},
            ],
            "securityContext": RESTRICTED,
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.knobs.line, "labels": {LABEL: self.knobs.suffix}},
            "spec": {
                "containers": [container],
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
            },
        }
        self.kube.apply(pod)
        try:
            # The first answers may come before routes and policies lead to the endpoint.
            wait(lambda: self._said(name).get("versions"), 180, f"pod {name} gets an answer")
            before = self._said(name)

            def so_far() -> Json:
                now = self._said(name)
                return {
                    "asked": now["asked"] - before["asked"],
                    "failed": now["failed"] - before["failed"],
                    "versions": now["versions"],
                    "why": now["why"],
                }

            yield so_far
        finally:
            self.kube.delete("Pod", self.knobs.line, name)

    def _said(self, pod: str) -> Json:
        lines = [line for line in self.kube.log(self.knobs.line, pod).splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}

    @property
    def image(self) -> str:
        """Of the pod that asks: one that is there anyway, and has Python."""
        from unittest.mock import patch

        from defectline.pipeline.images import Images

        with patch.dict(os.environ, own_environment()):
            return Images.load().deploy

    # What the server of Kubeflow Pipelines holds.

    @cached_property
    def server(self) -> Any:
        from defectline.pipeline.kfp_server.client import Server

        return Server(self.knobs.host, self.knobs.profile, self.knobs.token)

    def terminate(self, run: str) -> None:
        self.server.ask("stop the run", self.server.runs.run_service_terminate_run_with_http_info, run)

    def state(self, run: str) -> str:
        return self.server.ask("read the run", self.server.runs.run_service_get_run_with_http_info, run).state

    def remove_runs(self) -> None:
        """Every run of the suite's experiment, and the experiment."""
        experiments = self.server._experiments
        found = self.server.pages(
            "list experiments",
            experiments.experiment_service_list_experiments_with_http_info,
            "experiments",
            namespace=self.knobs.profile,
        )
        for experiment in [one for one in found if one.display_name == self.knobs.model]:
            listed = self.server.pages(
                "list runs",
                self.server.runs.run_service_list_runs_with_http_info,
                "runs",
                experiment_id=experiment.experiment_id,
            )
            for run in list(listed):
                if run.state in ("PENDING", "RUNNING"):
                    self.terminate(run.run_id)
                    wait(
                        lambda run=run: self.state(run.run_id) not in ("PENDING", "RUNNING", "CANCELING"),
                        300,
                        "stopped",
                    )
                self.server.ask(
                    "delete a run",
                    self.server.runs.run_service_delete_run_with_http_info,
                    run.run_id,
                )
            self.server.ask(
                "delete the experiment",
                experiments.experiment_service_delete_experiment_with_http_info,
                experiment.experiment_id,
            )

    def remove_store(self) -> None:
        storage = open_storage(self.knobs.folder)
        for found in list(storage.list("")):
            storage.delete(found.key)

    def bundle(self, version: str) -> Bundle:
        key = f"models/{self.knobs.model}/{version}/bundle.json"
        return Bundle.model_validate_json(self.store.read(key))


def _replaced(content: Any, old: str, new: str) -> Any:
    """The same object, in which every text `old` is `new`."""
    if isinstance(content, dict):
        return {key: _replaced(value, old, new) for key, value in content.items()}
    if isinstance(content, list):
        return [_replaced(value, old, new) for value in content]
    return new if content == old else content


def explain(done: Any) -> str:
    """What a command that ended otherwise than expected said: first the line that tells most, then all."""
    lines = [line.strip(" ▸") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    ends = [line for line in lines if " ended, " in line]
    first = (ends or [line.strip() for line in done.stderr.splitlines()[:1]] or lines[-1:] or ["no word"])[-1]
    return f"exit {done.returncode}: {first}\n{done.stdout}{done.stderr}"


def in_background(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work` in a thread; the function that is returned waits for it and hands its result on."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed on
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> Any:
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    return join
