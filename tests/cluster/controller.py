"""The controllers of a cluster with KServe, played by script: one step a poll, so no test waits for a clock.

What they do was read from KServe's code; above all, Ready stays True while an update fails.
"""

from dataclasses import dataclass, field
from typing import Any

from cluster.api import ApiServer, Json, Target
from cluster.endpoint import Endpoint

VERSION_LABEL = "defectline.dev/model-version"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"


@dataclass
class Service:
    """How far the controllers are with one InferenceService."""

    step: int = 0
    version: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    replicas: int = 1
    revision: int = 0
    served: bool = False


class Controller:
    """Reacts to InferenceServices; `scripts` says by version how a rollout goes.

    healthy     its pods become ready and the routes lead to them
    lost        the same, but the next requests find no route
    spoiled     the same, but it answers wrongly
    crash       its container exits again and again
    image       its image cannot be pulled
    storage     KServe's init container cannot fetch the model
    pending     no node has room for the pod
    idle        the controller does not notice at all
    """

    def __init__(self, api: ApiServer, endpoint: Endpoint):
        self.api, self.endpoint = api, endpoint
        self.scripts: dict[str, str] = {}
        self.services: dict[tuple[str, str], Service] = {}
        api.on_write, api.on_read = self._on_write, self._on_read

    def settle(self) -> None:
        """Take every rollout to its end."""
        for key in list(self.services):
            for _ in range(6):
                self._step(*key)

    def _on_write(self, target: Target, new: Json | None) -> None:
        if target.plural != "inferenceservices":
            return
        key = target.namespace, target.name
        if new is None:
            self.services.pop(key, None)
            self.endpoint.live.pop(target.name, None)
            for plural in ("deployments", "revisions", "pods"):
                for _, namespace, name in [k for k in self.api.objects if k[0] == plural]:
                    if namespace == target.namespace and name.startswith(f"{target.name}-predictor"):
                        self.api.remove(plural, namespace, name)
            return
        predictor = new["spec"]["predictor"]
        service = self.services.setdefault(key, Service())
        service.step, service.labels = 0, predictor.get("labels", {})
        service.version = service.labels.get(VERSION_LABEL, "")
        service.replicas = predictor.get("minReplicas", 1)

    def _on_read(self, target: Target) -> None:
        if target.plural == "inferenceservices" and (target.namespace, target.name) in self.services:
            self._step(target.namespace, target.name)

    def _step(self, namespace: str, name: str) -> None:
        service = self.services[namespace, name]
        script = self.scripts.get(service.version, "healthy")
        if script == "idle":
            return
        service.step += 1
        isvc = self.api.find("inferenceservices", namespace, name)
        assert isvc is not None
        knative = isvc["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
        well = script in ("healthy", "lost", "spoiled")
        if service.step == 2:
            self._take_spec(namespace, name, service, knative)
        elif service.step == 3:
            self._count(namespace, name, service, started=True, ready=False)
            self._put_pod(namespace, name, service, _waiting("PodInitializing"))
        elif service.step == 4 and well:
            self._count(namespace, name, service, started=True, ready=True)
            self._put_pod(namespace, name, service, {"running": {}})
            self.endpoint.live[name] = service.version
            self.endpoint.spoiled = {service.version} if script == "spoiled" else set()
            self.endpoint.lost = 4 if script == "lost" else 0
            service.served = True
        elif service.step == 4:
            self._fail(namespace, name, service, script)
        self._put_status(namespace, name, service, knative, ready=well and service.step >= 4)

    def _take_spec(self, namespace: str, name: str, service: Service, knative: bool) -> None:
        """The child has the new spec, but its own controller has not looked at it yet."""
        if knative:
            service.revision += 1
            revision = f"{name}-predictor-{service.revision:05}"
            self.api.put("revisions", namespace, revision, {"metadata": {"labels": dict(service.labels)}})
            return
        child = f"{name}-predictor"
        old = self.api.find("deployments", namespace, child) or {"status": {}}
        labels = {SERVICE_LABEL: name, **service.labels}
        spec = {"replicas": service.replicas, "template": {"metadata": {"labels": labels}}}
        self.api.put("deployments", namespace, child, {"spec": spec, "status": old["status"]})

    def _count(self, namespace: str, name: str, service: Service, started: bool, ready: bool) -> None:
        """The Deployment's status; Kubernetes leaves out counts that are 0."""
        deployment = self.api.find("deployments", namespace, f"{name}-predictor")
        if deployment is None:
            return
        old = service.replicas if service.served and not ready else 0
        new = service.replicas if ready else int(started)
        counts = {"updatedReplicas": new, "replicas": old + new, "availableReplicas": new if ready else old}
        status = {"observedGeneration": deployment["metadata"]["generation"]}
        deployment["status"] = status | {key: value for key, value in counts.items() if value}

    def _put_pod(
        self, namespace: str, name: str, service: Service, state: Json, init: Json | None = None, **more: Any
    ) -> str:
        """The pod of the spec; a real one's name ends in a random part."""
        pod = f"{name}-predictor-{service.labels.get('defectline.dev/spec', '0')}"
        for _, where, other in [k for k in self.api.objects if k[0] == "pods"]:
            if where == namespace and other.startswith(f"{name}-predictor-"):
                self.api.remove("pods", namespace, other)
        statuses = {
            "containerStatuses": [_status("kserve-container", state, **more)],
            "initContainerStatuses": [_status("storage-initializer", init or {"running": {}})],
        }
        metadata = {"labels": {SERVICE_LABEL: name, **service.labels}}
        self.api.put("pods", namespace, pod, {"metadata": metadata, "status": statuses})
        return pod

    def _fail(self, namespace: str, name: str, service: Service, script: str) -> None:
        ended = {"exitCode": 1, "reason": "Error"}
        if script == "crash":
            last = {"lastState": {"terminated": ended}, "restartCount": 3}
            pod = self._put_pod(namespace, name, service, _waiting("CrashLoopBackOff"), **last)
            self.api.logs[pod] = (
                "loading /mnt/models\nBundleError: openvino/model.xml is not what was sealed\n"
            )
            event = "BackOff", "Back-off restarting failed container kserve-container"
        elif script == "image":
            pod = self._put_pod(namespace, name, service, _waiting("ImagePullBackOff", "manifest unknown"))
            event = "Failed", "Failed to pull image: manifest unknown"
        elif script == "storage":
            waiting = _waiting("PodInitializing")
            pod = self._put_pod(namespace, name, service, waiting, {"terminated": ended})
            self.api.logs[pod] = "botocore.exceptions.NoCredentialsError: Unable to locate credentials\n"
            event = "BackOff", "Back-off restarting failed container storage-initializer"
        else:
            pod = self._put_pod(namespace, name, service, _waiting("PodInitializing"))
            event = "FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu."
        self._put_event(namespace, pod, *event)

    def _put_event(self, namespace: str, subject: str, reason: str, message: str) -> None:
        count = sum(key[0] == "events" for key in self.api.objects)
        body = {
            "reason": reason,
            "message": message,
            "involvedObject": {"kind": "Pod", "name": subject, "namespace": namespace},
            "lastTimestamp": f"2026-11-22T06:{count:02}:00Z",
        }
        self.api.put("events", namespace, f"{subject}.{count:x}", body)

    def _put_status(self, namespace: str, name: str, service: Service, knative: bool, ready: bool) -> None:
        isvc = self.api.find("inferenceservices", namespace, name)
        assert isvc is not None
        up = "True" if ready or service.served else "False"
        kinds = ["PredictorReady", "RoutesReady", "IngressReady", "Ready"]
        predictor = isvc.get("status", {}).get("components", {}).get("predictor", {})
        if knative and service.revision:
            predictor = predictor | {"latestCreatedRevision": f"{name}-predictor-{service.revision:05}"}
            if ready:
                predictor["latestReadyRevision"] = predictor["latestCreatedRevision"]
        status: Json = {"conditions": [{"type": kind, "status": up} for kind in kinds]}
        status["components"] = {"predictor": predictor}
        if service.served:
            status["url"] = self.endpoint.url
            status["address"] = {"url": self.endpoint.url}
        if status != isvc.get("status"):
            self.api.put("inferenceservices", namespace, name, {**isvc, "status": status}, spec_changed=False)


def _waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def _status(name: str, state: Json, **more: Any) -> Json:
    """A container's status, with the fields that the API always has."""
    basics = {"name": name, "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return basics | more
