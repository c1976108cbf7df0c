"""The controllers of a cluster with KServe, played by script: one step a poll, so no test waits for a clock.

What they do was read from KServe's code; above all, Ready stays True while an update fails.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.admission import initializer, refusal
from cluster.api import ApiServer, Json, Target, merge
from cluster.endpoint import Endpoint
from cluster.network import GATEWAY_PODS, lets_in

VERSION_LABEL = "defectline.dev/model-version"
SPEC_LABEL = "defectline.dev/spec"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
STORAGE_CONTAINERS = "clusterstoragecontainers"
NATIVE = "oci+native://"
GATEWAY = {
    "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
    "parentRef": {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": "kserve",
        "name": "gw",
    },
    "conditions": [{"type": "Accepted", "status": "True"}],
}
WELL = ("healthy", "lost", "spoiled", "retried")


@dataclass
class Pods:
    """How far the controllers are with the pods of one predictor: a service's own, or its canary's."""

    step: int = 0
    predictor: Json = field(default_factory=dict)
    stumbles: Iterator[tuple[Json, Json]] = field(default_factory=lambda: iter(_stumbles()))
    """States of the server and of KServe's container that pass."""
    served: str = ""
    """The version that had all requests last."""
    previous: str = ""
    """The one before."""

    @property
    def labels(self) -> dict[str, str]:
        return self.predictor.get("labels", {})

    @property
    def version(self) -> str:
        return self.labels.get(VERSION_LABEL, "")

    @property
    def replicas(self) -> int:
        return self.predictor.get("minReplicas", 1)


@dataclass
class Service:
    """How far the controllers are with one InferenceService."""

    own: Pods = field(default_factory=Pods)
    canary: Pods | None = None
    percent: int | None = None
    """The canary's share; None where there is none."""
    revision: int = 0


class Controller:
    """Reacts to InferenceServices; `scripts` says by version, or by service and version, how a rollout goes.

    healthy     its pods become ready and the routes lead to them
    lost        the same, but the next requests find no route
    spoiled     the same, but it answers wrongly
    crash       its container exits again and again
    image       its image cannot be pulled
    storage     KServe's init container cannot fetch the model
    pending     no node has room for the pod
    quota       the namespace's quota admits no pod
    retried     the first pull, secret and download fail; kubelet tries again, and it becomes healthy
    secret      a secret is missing
    volume      a volume cannot be mounted
    idle        the controller does not notice at all

    `canaries` says what this KServe makes of `spec.canary`: `works`, `ignored` (an older one), `unweighted`
    (its pods come up, but no gateway shares out requests), or `half` (only one of the two routes does).

    In Standard mode the address in a status is that of the stable Service, and its URL a name that no DNS
    need know. In Knative mode both lead to the gateway, and the URL's name resolves. `podspec` says whether
    Knative's feature flag kubernetes.podspec-securitycontext is on, which it is not by default. `domain` is
    KServe's template of the first part of a host.
    """

    def __init__(self, api: ApiServer, endpoint: Endpoint):
        self.api, self.endpoint = api, endpoint
        self.scripts: dict[str | tuple[str, str], str] = {}
        self.canaries = "works"
        self.podspec = False
        self.events = 0
        self.domain = "{name}-{namespace}"
        self.services: dict[tuple[str, str], Service] = {}
        api.on_write, api.on_read, api.backend = self._on_write, self._on_read, self._pods_of
        endpoint.of_gateway = self._of_gateway

    def _on_write(self, target: Target, new: Json | None) -> None:
        if target.plural != "inferenceservices":
            return
        key = target.namespace, target.name
        if new is None:
            self.services.pop(key, None)
            for led in (self.endpoint.live, self.endpoint.shares):
                led.pop(target.name, None)
            self._remove_children(target.namespace, {SERVICE_LABEL: target.name})
            return
        service = self.services.setdefault(key, Service())
        predictor = dict(new["spec"]["predictor"])
        percent = predictor.pop("canaryTrafficPercent", None)
        if predictor != service.own.predictor:
            service.own.step, service.own.predictor = 0, predictor
        if _knative(new):
            service.percent = percent
        else:
            self._take_canary(target, service, new["spec"].get("canary") or [])

    def _take_canary(self, target: Target, service: Service, canaries: list[Json]) -> None:
        if self.canaries == "ignored" or not canaries:
            if service.canary:
                self._remove_children(target.namespace, service.canary.labels | {SERVICE_LABEL: target.name})
                self._put_routes(target.namespace, target.name, [(f"{target.name}-predictor", 100)])
            self.endpoint.shares.pop(target.name, None)
            service.canary = service.percent = None
            return
        (wanted,) = canaries
        service.percent = wanted["trafficPercent"]
        if service.canary is None or service.canary.predictor != wanted["predictor"]:
            service.canary = Pods(predictor=wanted["predictor"])

    def _remove_children(self, namespace: str, labels: dict[str, str]) -> None:
        for key, child in list(self.api.objects.items()):
            carried = child["metadata"].get("labels", {})
            if key[0] == "deployments":
                carried = child["spec"]["template"]["metadata"]["labels"]
            if key[0] != "inferenceservices" and key[1] == namespace and labels.items() <= carried.items():
                self.api.remove(*key)
                if key[0] == "services":
                    for led in (self.endpoint.services, self.endpoint.by_host):
                        led.pop(f"{key[2]}.{namespace}.svc", None)

    def _pods_of(
        self, host: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Json] | None:
        """What the API server's proxy to a Service gets: the answer of its pods, None where none is ready."""
        endpoint = self.endpoint
        if host in endpoint.by_host or endpoint.services.get(host) in endpoint.live:
            return endpoint.serve(host, path, body, headers)
        return None

    def _of_gateway(self, model: str) -> tuple[int, Json] | None:
        """What the gateway says where the policies of the namespace keep it from the pods of a model."""
        with self.api.lock:
            labels = {"kubernetes.io/metadata.name": GATEWAY_PODS}
            there = self.api.find("namespaces", "", GATEWAY_PODS) or {"metadata": {}}
            labels |= there["metadata"].get("labels", {})
            for (namespace, name), service in self.services.items():
                policies = [
                    found
                    for (plural, where, _), found in self.api.objects.items()
                    if (plural, where) == ("networkpolicies", namespace)
                ]
                if name == model and not lets_in(policies, service.own.labels, labels):
                    return 503, {"error": "upstream connect error or disconnect/reset before headers"}
        return None

    def _on_read(self, target: Target) -> None:
        if target.plural == "inferenceservices" and (target.namespace, target.name) in self.services:
            self._step(target.namespace, target.name)
        elif target.plural in ("deployments", "httproutes"):
            for namespace, name in list(self.services):
                if self.services[namespace, name].canary:
                    self._step(namespace, name)

    def script(self, name: str, version: str) -> str:
        return self.scripts.get((name, version)) or self.scripts.get(version, "healthy")

    def _step(self, namespace: str, name: str) -> None:
        service = self.services[namespace, name]
        isvc = self.api.find("inferenceservices", namespace, name)
        assert isvc is not None
        knative = _knative(isvc)
        self._advance(namespace, name, name, service.own, knative, service)
        if service.canary:
            base = f"{name}-{service.canary.predictor['name']}"
            self._advance(namespace, name, base, service.canary, False, service)
        if self.script(name, service.own.version) == "idle":
            return
        self._route(namespace, name, service, knative)
        self._put_status(namespace, name, service, isvc, knative)

    def _advance(
        self, namespace: str, name: str, base: str, pods: Pods, knative: bool, service: Service
    ) -> None:
        script = self.script(name, pods.version)
        if script == "idle":
            return
        pods.step += 1
        predictor = pods.predictor if pods is service.own else merge(service.own.predictor, pods.predictor)
        if pods.step == 2 and (error := self._fault(namespace, base, predictor, knative)):
            pods.step = 1  # it is tried again
            self._put_event(namespace, name, "InternalError", error)
            return
        why = self._forbidden(namespace, f"{base}-predictor", pods, predictor) if pods.step > 2 else ""
        if pods.step == 2:
            if knative:
                service.revision += 1
                labels = {SERVICE_LABEL: name, **pods.labels}
                body = {"metadata": {"labels": labels}, "status": {}}
                self.api.put("revisions", namespace, _revision(name, service), body)
            else:
                self._take_spec(namespace, name, base, pods)
        elif pods.step in (3, 4) and why:
            self._refuse(namespace, name, base, pods, why, service if knative else None)
        elif pods.step == 3:
            self._count(namespace, base, pods, started=True, ready=False)
            self._put_pod(namespace, name, base, pods, _waiting("PodInitializing"))
        elif pods.step == 4 and script == "retried" and (stumble := next(pods.stumbles, None)):
            pods.step -= 1
            self._put_pod(namespace, name, base, pods, *stumble)
        elif pods.step == 4 and script in WELL:
            self._count(namespace, base, pods, started=True, ready=True)
            self._put_pod(namespace, name, base, pods, {"running": {}})
            self.endpoint.spoiled.discard((name, pods.version))
            if script == "spoiled":
                self.endpoint.spoiled.add((name, pods.version))
            self.endpoint.lost = 4 if script == "lost" else 0
        elif pods.step == 4:
            self._fail(namespace, name, base, pods, script)

    def _fault(self, namespace: str, base: str, predictor: Json, knative: bool) -> str:
        """Why KServe makes nothing of the spec, as its event says; else ''."""
        if knative:
            if predictor.get("securityContext") and not self.podspec:
                fields = ", ".join(
                    f"spec.template.spec.securityContext.{key}" for key in predictor["securityContext"]
                )
                return (
                    'fails to create ksvc: admission webhook "validation.webhook.serving.knative.dev" denied '
                    f"the request: validation failed: must not set the field(s): {fields}"
                )
            labels = [f"latest-{base}-predictor"]
        else:
            host = self.domain.format(name=f"{base}-predictor", namespace=namespace)
            labels = [host.partition(".")[0], f"isvc.{base}-predictor"]
        for label in labels:
            if len(label) > 63:
                said = f'Invalid value: "{label}": must be no more than 63 characters'
                return f"fails to reconcile predictor: {said}"
        runtime = predictor.get("model", {}).get("runtime")
        if runtime and not self.api.find("servingruntimes", namespace, runtime):
            return f"fails to reconcile predictor: no runtime with the name: {runtime}"
        return ""

    def _forbidden(self, namespace: str, child: str, pods: Pods, predictor: Json) -> str:
        """Why the API server takes none of the pods; else ''."""
        pod = f"{child}-{pods.labels.get(SPEC_LABEL, '0')}-x7k2p"
        if self.script(child.removesuffix("-predictor"), pods.version) == "quota":
            return f'pods "{pod}" is forbidden: exceeded quota: vision, requested: cpu=1, used: cpu=4'
        if "model" not in predictor:
            return ""
        runtime = self.api.find("servingruntimes", namespace, predictor["model"]["runtime"])
        assert runtime is not None
        spec = copy.deepcopy({key: runtime["spec"].get(key, []) for key in ("containers", "volumes")})
        spec["securityContext"] = predictor.get("securityContext", {})
        containers = [
            found for key, found in sorted(self.api.objects.items()) if key[0] == STORAGE_CONTAINERS
        ]
        uri = predictor["model"]["storageUri"]
        if uri.startswith(NATIVE):
            # Kubernetes mounts it: no container of KServe's own comes in between.
            image = {"reference": uri.removeprefix(NATIVE), "pullPolicy": "IfNotPresent"}
            spec["volumes"].append({"name": "mnt-models", "image": image})
        else:
            spec["initContainers"] = [initializer(containers, uri)]
        there = self.api.find("namespaces", "", namespace) or {"metadata": {}}
        return refusal(there["metadata"].get("labels", {}), pod, spec)

    def _refuse(
        self, namespace: str, name: str, base: str, pods: Pods, why: str, knative: Service | None
    ) -> None:
        """The Deployment, or the revision, whose pods are not taken."""
        condition = {"status": "True", "type": "ReplicaFailure", "reason": "FailedCreate", "message": why}
        if knative:
            revision = self.api.find("revisions", namespace, _revision(name, knative))
            assert revision is not None
            revision["status"] = {"conditions": [{**condition, "type": "Ready", "status": "False"}]}
        else:
            deployment = self.api.find("deployments", namespace, f"{base}-predictor")
            assert deployment is not None
            status = {"observedGeneration": deployment["metadata"]["generation"]}
            deployment["status"] = {**deployment["status"], **status, "conditions": [condition]}
        replica_set = f"{base}-predictor-{pods.labels.get(SPEC_LABEL, '0')}"
        self._put_event(namespace, replica_set, "FailedCreate", f"Error creating: {why}")

    def _route(self, namespace: str, name: str, service: Service, knative: bool) -> None:
        """Lead requests to what is ready."""
        own, canary = service.own, service.canary
        well = own.step >= 4 and self.script(name, own.version) in WELL
        if knative:
            tag = f"latest-{name}-predictor.{namespace}"
            self.endpoint.names |= {f"{name}.{namespace}.example", f"{tag}.example"}
            for host in (f"{name}.{namespace}.example", f"{name}.{namespace}.svc"):
                self.endpoint.routes[host] = name
            if well and service.percent is None:
                if own.served != own.version:
                    own.previous, own.served = own.served, own.version
                self.endpoint.shares.pop(name, None)
                self.endpoint.live[name] = own.served
            elif service.percent is not None:
                # What was rolled out last has the rest: where that is the latest itself, the one before.
                rest = own.previous if own.served == own.version else own.served
                if rest:
                    self.endpoint.live[name] = rest
                if well:
                    self.endpoint.shares[name] = own.version, service.percent
                    for domain in ("example", "svc"):
                        self.endpoint.by_host[f"{tag}.{domain}"] = own.version
            return
        self.endpoint.routes[f"{name}-{namespace}.example"] = name
        with_gateway = "gateway.networking.k8s.io" not in self.api.missing and self.canaries != "unweighted"
        if with_gateway and service.percent is None:
            self._put_routes(namespace, name, [(f"{name}-predictor", 100)])
        if well:
            own.served = own.version
            self.endpoint.live[name] = own.version
        if canary and canary.step >= 4 and self.script(name, canary.version) in WELL:
            child = f"{name}-{canary.predictor['name']}-predictor"
            self.endpoint.by_host[f"{child}.{namespace}.svc"] = canary.version
            if self.canaries in ("works", "half"):
                assert service.percent is not None
                self.endpoint.shares[name] = canary.version, service.percent
                shares = [(f"{name}-predictor", 100 - service.percent), (child, service.percent)]
                self._put_routes(namespace, name, shares)

    def _put_routes(self, namespace: str, name: str, shares: list[tuple[str, int]]) -> None:
        """The two HTTPRoutes of a service: that of its own host, and that of its predictor's."""
        backends = [{"name": backend, "weight": weight} for backend, weight in shares]
        for route in (name, f"{name}-predictor"):
            led = backends[:1] if route == name and self.canaries == "half" else backends
            body = {"metadata": {"labels": {SERVICE_LABEL: name}}, "spec": {"rules": [{"backendRefs": led}]}}
            self.api.put("httproutes", namespace, route, {**body, "status": {"parents": [GATEWAY]}})

    def _take_spec(self, namespace: str, name: str, base: str, pods: Pods) -> None:
        """The child has the new spec, but its own controller has not looked at it yet."""
        child = f"{base}-predictor"
        old = self.api.find("deployments", namespace, child) or {"status": {}}
        labels = {SERVICE_LABEL: name, **pods.labels}
        spec = {"replicas": pods.replicas, "template": {"metadata": {"labels": labels}}}
        self.api.put("deployments", namespace, child, {"spec": spec, "status": old["status"]})
        if base == name:
            self.endpoint.services[f"{child}.{namespace}.svc"] = name
        ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
        metadata = {"labels": labels}
        self.api.put("services", namespace, child, {"metadata": metadata, "spec": {"ports": ports}})

    def _count(self, namespace: str, base: str, pods: Pods, started: bool, ready: bool) -> None:
        """The Deployment's status; Kubernetes leaves out counts that are 0."""
        deployment = self.api.find("deployments", namespace, f"{base}-predictor")
        if deployment is None:
            return
        old = pods.replicas if pods.served and not ready else 0
        new = pods.replicas if ready else int(started)
        counts = {"updatedReplicas": new, "replicas": old + new, "availableReplicas": new if ready else old}
        counts["readyReplicas"] = counts["availableReplicas"]
        status = {"observedGeneration": deployment["metadata"]["generation"]}
        deployment["status"] = status | {key: value for key, value in counts.items() if value}

    def _put_pod(
        self,
        namespace: str,
        name: str,
        base: str,
        pods: Pods,
        state: Json,
        init: Json | None = None,
        **more: Any,
    ) -> str:
        """The pod of the spec; a real one's name ends in a random part."""
        pod = f"{base}-predictor-{pods.labels.get(SPEC_LABEL, '0')}"
        for _, where, other in [k for k in self.api.objects if k[0] == "pods"]:
            if where == namespace and other.startswith(f"{base}-predictor-"):
                self.api.remove("pods", namespace, other)
        ready = "running" in state
        statuses = {
            "containerStatuses": [_status("kserve-container", state, ready=ready, **more)],
            "initContainerStatuses": [_status("storage-initializer", init or {"running": {}})],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        metadata = {"labels": {SERVICE_LABEL: name, **pods.labels}}
        self.api.put("pods", namespace, pod, {"metadata": metadata, "status": statuses})
        return pod

    def image(self, namespace: str, name: str) -> str:
        """The image of a service's runtime."""
        service = self.api.find("inferenceservices", namespace, name)
        runtime = service["spec"]["predictor"]["model"].get("runtime", "") if service else ""
        found = self.api.find("servingruntimes", namespace, runtime)
        return found["spec"]["containers"][0]["image"] if found else "registry.example/defectline-serve:0.1.0"

    def _fail(self, namespace: str, name: str, base: str, pods: Pods, script: str) -> None:
        ended = {"exitCode": 1, "reason": "Error"}
        if script == "crash":
            last = {"lastState": {"terminated": ended}, "restartCount": 3}
            pod = self._put_pod(namespace, name, base, pods, _waiting("CrashLoopBackOff"), **last)
            self.api.logs[pod] = (
                "loading /mnt/models\nBundleError: openvino/model.xml is not what was sealed\n"
            )
            event = "BackOff", "Back-off restarting failed container kserve-container"
        elif script == "image":
            image = self.image(namespace, name)
            why = f"failed to resolve reference {image}: not found"
            back_off = f'Back-off pulling image "{image}"'
            waiting = _waiting("ImagePullBackOff", f"{back_off}: ErrImagePull: {why}")
            pod = self._put_pod(namespace, name, base, pods, waiting)
            event = "BackOff", back_off
        elif script == "secret":
            why = 'secret "defectline-review" not found'
            pod = self._put_pod(namespace, name, base, pods, _waiting("CreateContainerConfigError", why))
            event = "Failed", f"Error: {why}"
        elif script == "volume":
            pod = self._put_pod(namespace, name, base, pods, _waiting("ContainerCreating"))
            event = "FailedMount", 'MountVolume.SetUp failed for volume "review": secret "review" not found'
        elif script == "storage":
            waiting = _waiting("PodInitializing")
            pod = self._put_pod(namespace, name, base, pods, waiting, {"terminated": ended})
            why = "botocore.exceptions.NoCredentialsError: Unable to locate credentials"
            ended = {**ended, "message": f"{why}\n"}  # KServe has kubelet take it from the log
            pod = self._put_pod(namespace, name, base, pods, waiting, {"terminated": ended})
            self.api.logs[pod] = f"{why}\n"
            event = "BackOff", "Back-off restarting failed container storage-initializer"
        else:
            why = "0/3 nodes are available: 3 Insufficient cpu."
            pod = self._put_pod(namespace, name, base, pods, {})
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
            # Without a node, no kubelet says anything about containers.
            self.api.objects["pods", namespace, pod]["status"] = {
                "phase": "Pending",
                "conditions": [scheduled],
            }
            event = "FailedScheduling", f"{why} preemption: 0/3 nodes are available."
        self._put_event(namespace, pod, *event)

    def _put_event(self, namespace: str, subject: str, reason: str, message: str) -> None:
        """An event; one that is there already only becomes the latest."""
        said = {"reason": reason, "message": message}
        about = {"kind": "Pod", "name": subject, "namespace": namespace}
        same = [
            key[2]
            for key, found in self.api.objects.items()
            if key[0] == "events" and found["involvedObject"] == about and said.items() <= found.items()
        ]
        self.events += 1
        minutes, seconds = divmod(self.events, 60)
        time = f"2026-11-22T{6 + minutes // 60:02}:{minutes % 60:02}:{seconds:02}Z"
        body = {**said, "type": "Warning", "involvedObject": about, "lastTimestamp": time}
        self.api.put("events", namespace, same[0] if same else f"{subject}.{self.events:x}", body)

    def _put_status(self, namespace: str, name: str, service: Service, isvc: Json, knative: bool) -> None:
        own = service.own
        ready = own.step >= 4 and self.script(name, own.version) in WELL
        up = "True" if ready or own.served else "False"
        kinds = ["PredictorReady", "RoutesReady", "IngressReady", "Ready"]
        predictor = isvc.get("status", {}).get("components", {}).get("predictor", {})
        if knative and service.revision:
            latest = _revision(name, service)
            predictor = predictor | {"latestCreatedRevision": latest}
            if ready:
                predictor["latestReadyRevision"] = latest
                percent = 100 if service.percent is None else service.percent
                url = f"http://latest-{name}-predictor.{namespace}.example"
                target = {"revisionName": latest, "percent": percent, "latestRevision": True}
                predictor["traffic"] = [target | ({"tag": "latest", "url": url} if percent < 100 else {})]
        status: Json = {"conditions": [{"type": kind, "status": up} for kind in kinds]}
        # KServe says so of every service; the other is for information.
        others = ("Stopped", "OciImageVolumeCompatible")
        status["conditions"] += [{"type": kind, "status": "False"} for kind in others]
        status["components"] = {"predictor": predictor}
        child = self.api.find("deployments", namespace, f"{name}-predictor")
        if child:  # the child's, not the service's own
            status["observedGeneration"] = child["metadata"]["generation"]
        if up == "True":
            host = f"{name}.{namespace}" if knative else f"{name}-{namespace}"
            own_host = f"{name}.{namespace}" if knative else f"{name}-predictor.{namespace}"
            status["url"] = f"http://{host}.example"
            status["address"] = {"url": f"http://{own_host}.svc.cluster.local"}
        if status != isvc.get("status"):
            self.api.put("inferenceservices", namespace, name, {**isvc, "status": status}, spec_changed=False)


def _knative(isvc: Json) -> bool:
    return isvc["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode") == "Knative"


def _revision(name: str, service: Service) -> str:
    return f"{name}-predictor-{service.revision:05}"


def _waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def _status(name: str, state: Json, ready: bool = False, **more: Any) -> Json:
    """A container's status, with the fields that the API always has."""
    basics = {"name": name, "state": state, "image": "", "imageID": "", "ready": ready, "restartCount": 0}
    return basics | more


def _stumbles() -> list[tuple[Json, Json]]:
    """What kubelet says of a server and of KServe's container before it has tried again, each a few times."""
    starting, downloading = _waiting("PodInitializing"), {"running": {}}
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    failed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    secret = _waiting("CreateContainerConfigError", 'secret "review" not found')
    states = [
        (starting, failed),
        (starting, downloading),
        (starting, _waiting("CrashLoopBackOff", "back-off 10s restarting failed container")),
        (_waiting("ErrImagePull", "connection reset by peer"), done),
        (_waiting("ImagePullBackOff", "Back-off pulling image"), done),
        (secret, done),
    ]
    return [state for state in states for _ in range(2)]
