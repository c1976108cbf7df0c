"""A TrainJob from its start to its end, and what is told of it."""

import time
from collections.abc import Mapping
from typing import Any

from defectline.components.common.errors import DefectlineError, ServingError
from defectline.components.common.steps import say
from defectline.components.train.cluster.api import Api, Away, Refused
from defectline.components.train.cluster.trainjob import INDEX_LABEL, NODE, outcome

AWAY_S = 900.0
"""So long the API may be away while the TrainJob goes on."""
TAIL = 30
"""Lines of each pod's log that are told of a TrainJob that failed."""


class TrainJob:
    """One TrainJob, and what has been told of it."""

    def __init__(self, api: Api, name: str):
        self.api, self.name = api, name
        self.told = ""
        self.seen: dict[str, str] = {}
        """Name of a pod → the time of the last line of its log that was told."""

    def leftover(self) -> bool:
        """Whether there is a TrainJob of this name to follow; one that failed is removed."""
        try:
            found = self.api.job(self.name)
            if found is None or outcome(found)[0] != "Failed":
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
