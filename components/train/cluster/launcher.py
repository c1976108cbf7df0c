"""The train step where several nodes train: it starts a TrainJob, follows it, and fetches the model."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defectline.components.common.errors import DefectlineError, ServingError
from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.common.settings import checked
from defectline.components.common.steps import say, step
from defectline.components.common.storage import open_storage
from defectline.components.train.cluster.api import Api, Away, Refused
from defectline.components.train.cluster.exchange import Exchange
from defectline.components.train.cluster.settings import NodesSettings
from defectline.components.train.cluster.trainjob import INDEX_LABEL, NODE, build, outcome
from defectline.components.train.settings import read_settings

EVERY_S = 5.0
AWAY_S = 900.0
"""So long the API may be away while the TrainJob goes on."""
TAIL = 30
"""Lines of each pod's log that are told of a TrainJob that failed."""


def train_on_nodes(
    datasets: Sequence[Path],
    model: Path,
    page: Path,
    settings: Mapping[str, Any],
    nodes: Mapping[str, Any],
    *,
    store: str,
    api: Api | None = None,
    every_s: float = EVERY_S,
) -> dict[str, float]:
    """What `train` of step.py does, by the pods of a TrainJob: `nodes` are fields of NodesSettings.

    The TrainJob and what it needs in the store are removed at the end, whatever that is; also where the
    process is told to end. Started again for the same run, it follows the TrainJob that is there. Raises
    SystemExit, as a step does, for what the user can fix, and RuntimeError where the TrainJob failed.
    """
    with step("train", store) as report:
        chosen, where = read_settings(**settings), checked(NodesSettings, **nodes)
        api = api or Api.of_this_pod()
        name = _name(datasets, settings, where)
        exchange = Exchange(open_storage(store), name)
        job = _TrainJob(api, name)
        report.on_stop = job.stop
        try:
            if job.leftover():
                say(f"train: going on with TrainJob {name}, which is there")
            else:
                exchange.forget()
                exchange.put_order(datasets, settings)
                job.start(build(name, store, where))
                say(f"train: started TrainJob {name} of {where.nodes} pods, {chosen.epochs} epochs at most")
            failure = job.follow(every_s)
            if failure is not None:
                if error := exchange.error():
                    raise error
                raise RuntimeError(f"TrainJob {name} failed: {failure or 'nothing says why'}")
            best = exchange.get_model(model, page)
        finally:
            job.stop()
            exchange.forget()
        report.summary = (
            f"on {where.nodes} nodes, best epoch {best['epoch']:.0f}, loss {best['val_loss']:.3f}"
        )
        return best


def _name(datasets: Sequence[Path], settings: Mapping[str, Any], where: NodesSettings) -> str:
    """The same for a step of the same run that starts again."""
    data = [(folder / "dataset.json").read_bytes() for folder in datasets]
    parts = {
        "run": os.environ.get(RUN_ENV, ""),
        "data": [hashlib.sha256(content).hexdigest() for content in data],
        "settings": dict(settings),
        "nodes": where.model_dump(),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"defectline-{digest[:12]}"


class _TrainJob:
    """One TrainJob, and what has been told of it."""

    def __init__(self, api: Api, name: str):
        self.api, self.name = api, name
        self.told = ""
        self.seen: dict[str, str] = {}
        """Name of a pod → the time of the last line of its log that was told."""

    def leftover(self) -> bool:
        """Whether a TrainJob of this name goes on; one that has ended is removed."""
        try:
            found = self.api.job(self.name)
            if found is None or not outcome(found)[0]:
                return found is not None
            self.api.delete(self.name)
            while self.api.job(self.name) is not None:
                time.sleep(0.2)
        except Refused as refused:
            raise _refused(refused, self.api.namespace) from refused
        except Away as away:
            raise _away(away) from away
        return False

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Raises ServingError where the cluster does not take it."""
        try:
            self.api.create(dict(manifest))
        except Refused as refused:
            raise _refused(refused, self.api.namespace) from refused
        except Away as away:
            raise _away(away) from away

    def stop(self) -> None:
        try:
            self.api.delete(self.name, timeout_s=5.0)
        except (Away, Refused) as error:
            say(f"train: TrainJob {self.name} is still there, for Kubernetes does not remove it: {error}")

    def follow(self, every_s: float) -> str | None:
        """Tell what happens until it has ended: None for success, else what is said of the failure."""
        answered = time.monotonic()
        while True:
            try:
                found = self.api.job(self.name)
                if found is None:
                    return "somebody removed it"
                state, message = outcome(found)
                self._tell(state)
                answered = time.monotonic()
                if state:
                    return None if state == "Complete" else message
            except Away as away:
                if time.monotonic() - answered > AWAY_S:
                    raise _away(away) from away
            except Refused as refused:
                raise _refused(refused, self.api.namespace) from refused
            time.sleep(every_s)

    def _tell(self, state: str) -> None:
        """New lines of the first process, why pods wait and, of a failure, the ends of the others' logs."""
        pods = self.api.pods(self.name)
        waits = sorted({text for pod in pods if (text := _waits(pod))})
        if waits and waits != [self.told]:
            self.told = waits[0]
            say(f"train: a pod of {len(pods)} waits: {waits[0]}")
        for pod in pods:
            name, index = pod["metadata"]["name"], pod["metadata"]["labels"].get(INDEX_LABEL, "0")
            if index == "0":
                if self.seen and name not in self.seen:
                    say("train: a pod was lost, and all of them start again")
                self._tell_log(name)
            elif state == "Failed":
                say(f"train: the end of the log of process {int(index) + 1}:")
                for line in self.api.log(name, NODE, tailLines=str(TAIL)).splitlines():
                    print(f"  {line.partition(' ')[2]}", flush=True)

    def _tell_log(self, pod: str) -> None:
        last = self.seen.setdefault(pod, "")
        # The server counts in whole seconds.
        since = {"sinceTime": last[:19] + "Z"} if last else {}
        for line in self.api.log(pod, NODE, **since).splitlines():
            when, _, text = line.partition(" ")
            if when > last:
                print(text, flush=True)
                self.seen[pod] = when


def _waits(pod: Mapping[str, Any]) -> str:
    """Why a pod has not started; "" where it has, or is about to."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".removesuffix(": ")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"it finds no node: {condition.get('message', '')}"
    return ""


def _refused(refused: Refused, namespace: str) -> DefectlineError:
    got = f"{refused.status}: {refused.message}"
    if refused.status == 404 and "page not found" in refused.message:
        return ServingError(
            "The cluster has no TrainJobs.",
            got=got,
            expected="Kubeflow Trainer v2, whose API is trainer.kubeflow.org/v1alpha1",
            fix="Install Kubeflow Trainer, or compile the pipeline with --nodes 1.",
        )
    return ServingError(
        "Kubernetes does not let this step train on several nodes.",
        got=got,
        expected=f"the TrainingRuntime and the Role of manifests/training in namespace {namespace}",
        fix=f"Run `kubectl apply -k manifests/training`, with {namespace} as its namespace.",
    )


def _away(away: Away) -> DefectlineError:
    return ServingError(
        "Kubernetes' API does not answer.",
        got=str(away),
        expected="an answer",
        fix="Look after the cluster, and run the pipeline again: training goes on from its last checkpoint.",
    )
