"""What a deployment is in Kubernetes, as plain dicts: pure functions of settings, version and files."""

import hashlib
import json
from typing import Any

from defectline.components.deploy.kserve.settings import (
    REVIEW_GCS_KEY,
    REVIEW_S3_KEYS,
    REVIEW_S3_PLACE,
    KServeSettings,
)

Manifest = dict[str, Any]

GROUP = "serving.kserve.io"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "defectline"
VERSION_LABEL = "defectline.dev/model-version"
SPEC_LABEL = "defectline.dev/spec"
"""Digest of the whole spec: tells a Deployment that has it from one that has not got there yet."""
MODE_ANNOTATION = f"{GROUP}/deploymentMode"
SERVICE_LABEL = f"{GROUP}/inferenceservice"
CANDIDATE_LABEL = "defectline.dev/candidate-of"
"""On a second service, next to the one of that name: only the check before a rollout knows it."""
RUN_ANNOTATION = "defectline.dev/run"
"""Of a candidate: the run that checks it. On the service itself, it would start all pods again."""

REVIEW_MOUNT = "/var/secrets/review"
TRUST_MOUNT = "/etc/defectline/trust"

MODEL_FORMAT = {"name": "defectline", "version": "1"}
HTTP_PORT = 8080
DRAIN_S = 10
"""A pod that was told to stop says so in its readiness and goes on answering for so long, until no route
leads to it any more."""
GRACE_S = 60
"""More than DRAIN_S and the 30 s that the server gives to requests under way."""
POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""For the container that KServe puts into the pod besides ours. It names no user: OpenShift chooses one."""

OWN_FIELDS = (
    "canaryTrafficPercent",
    "deploymentStrategy",
    "scaleMetric",
    "scaleTarget",
    "topologySpreadConstraints",
)
"""Fields of a predictor that one deployment sets and the next may have to take away."""


def serving_runtime(settings: KServeSettings) -> Manifest:
    """The ServingRuntime for these settings, named by the digest of its spec, so never changed."""
    health = {"httpGet": {"path": "/v2/models/{{.Name}}/ready", "port": HTTP_PORT}, "timeoutSeconds": 5}
    # The probe of a pod's life asks for no model: a pod that drains is not ready, and must not be killed.
    alive = {"httpGet": {"path": "/v2/health/live", "port": HTTP_PORT}, "timeoutSeconds": 5}
    amounts = pod_resources(settings)
    arguments = ["--model_name={{.Name}}", "--model_dir=/mnt/models", f"--http_port={HTTP_PORT}"]
    arguments.append(f"--drain_ms={DRAIN_S * 1000}")
    if settings.gpu:
        arguments.append("--engine=onnxruntime")
    if settings.review:
        arguments.append(f"--review={settings.review}")
    container: Manifest = {
        "name": "kserve-container",
        "image": settings.image,
        "args": arguments,
        "ports": [{"containerPort": HTTP_PORT, "protocol": "TCP"}],
        "startupProbe": {**health, "periodSeconds": 3, "failureThreshold": 60},
        "readinessProbe": {**health, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec: Manifest = {
        "supportedModelFormats": [{**MODEL_FORMAT, "autoSelect": False}],
        "protocolVersions": ["v1", "v2"],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    env: list[Manifest] = []
    if settings.traces:
        env.append({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": settings.traces})
    if settings.review_secret and settings.review.startswith("s3://"):
        env += [
            _from_secret(settings.review_secret, key, optional=key in REVIEW_S3_PLACE)
            for key in REVIEW_S3_KEYS + REVIEW_S3_PLACE
        ]
    elif settings.review_secret:
        file = f"{REVIEW_MOUNT}/{REVIEW_GCS_KEY}"
        env.append({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": file})
        container["volumeMounts"].append({"name": "review", "mountPath": REVIEW_MOUNT, "readOnly": True})
        spec["volumes"].append({"name": "review", "secret": {"secretName": settings.review_secret}})
    if settings.trust:
        arguments.append(f"--trust={TRUST_MOUNT}")
        container["volumeMounts"].append({"name": "trust", "mountPath": TRUST_MOUNT, "readOnly": True})
        spec["volumes"].append({"name": "trust", "configMap": {"name": settings.trust}})
    if env:
        container["env"] = env
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": f"{MANAGER}-{_digest(spec)}", "labels": {MANAGED_BY: MANAGER}},
        "spec": spec,
    }


def _from_secret(secret: str, key: str, optional: bool) -> Manifest:
    """The environment variable that is called as a key of the secret, with its value."""
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": optional}}}


def pod_resources(settings: KServeSettings) -> dict[str, str]:
    """What one pod requests, which is also its limit."""
    gpus = {settings.gpu_type: str(settings.gpu)} if settings.gpu else {}
    return {"cpu": settings.cpu, "memory": settings.memory, **gpus}


def inference_service(name: str, version: str, storage_uri: str, settings: KServeSettings) -> Manifest:
    """The InferenceService that serves `version` from `storage_uri`, which ends with a slash.

    Without the slash KServe would also fetch every sibling whose name starts alike.
    """
    standard = settings.deployment_mode == "Standard"
    predictor: Manifest = {
        "serviceAccountName": settings.service_account or "default",
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.max_replicas,
        "model": {
            "modelFormat": MODEL_FORMAT,
            "runtime": serving_runtime(settings)["metadata"]["name"],
            "protocolVersion": "v1",
            "storageUri": storage_uri,
        },
    }
    if settings.trust:
        # Another version that is signed as well could be put where this one is loaded from.
        predictor["model"]["args"] = [f"--version={version}"]
    annotations: dict[str, str] = {MODE_ANNOTATION: settings.deployment_mode}
    if standard:
        # KServe's autoscaler drops to fewer pods in the middle of a rollout: only where it was asked for.
        annotations[f"{GROUP}/autoscalerClass"] = "hpa" if settings.cpu_target else "none"
        predictor["securityContext"] = POD_SECURITY
        predictor["terminationGracePeriodSeconds"] = GRACE_S
        predictor["deploymentStrategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        }
        if settings.spread_over and settings.max_replicas > 1:
            predictor["topologySpreadConstraints"] = [
                {
                    "maxSkew": 1,
                    "topologyKey": settings.spread_over,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {SERVICE_LABEL: name}},
                }
            ]
    else:
        # No securityContext: Knative refuses it, unless a feature flag that is off by default allows it.
        # Gives every revision an address of its own, by which it is checked before clients reach it.
        annotations[f"{GROUP}/enable-tag-routing"] = "true"
    if settings.cpu_target:
        predictor |= {"scaleMetric": "cpu", "scaleTarget": settings.cpu_target}
    if settings.concurrency:
        predictor |= {"scaleMetric": "concurrency", "scaleTarget": settings.concurrency}
    predictor["labels"] = {VERSION_LABEL: version, SPEC_LABEL: _digest(predictor)}
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}, "annotations": annotations},
        "spec": {"predictor": predictor},
    }


def candidate_name(name: str) -> str:
    return f"{name}-candidate"


def candidate_settings(settings: KServeSettings) -> KServeSettings:
    """Those of one pod that is asked for golden pictures only, at an address of its own."""
    one = {"min_replicas": 1, "max_replicas": 1, "cpu_target": 0, "concurrency": 0}
    return settings.model_copy(update={**one, "review": "", "review_secret": "", "host_header": ""})


def candidate_service(
    name: str, version: str, storage_uri: str, settings: KServeSettings, run: str = ""
) -> Manifest:
    """The service next to `name` that serves `version` from one pod, for the checks of `run`."""
    service = inference_service(candidate_name(name), version, storage_uri, candidate_settings(settings))
    service["metadata"]["labels"][CANDIDATE_LABEL] = name
    service["metadata"]["annotations"][RUN_ANNOTATION] = run
    return service


def canary_of(service: Manifest, percent: int) -> list[Manifest]:
    """`spec.canary` that gives `percent` of the requests to what `service` would serve."""
    predictor = service["spec"]["predictor"]
    # KServe's schema demands the name that its controller leaves empty.
    model = {**predictor["model"], "name": ""}
    # Without minReplicas, 0 percent means no pod at all.
    spec = {"name": canary_name(service), "minReplicas": 1, "labels": predictor["labels"], "model": model}
    # The rest is that of the version that serves, which may have been deployed without this.
    spec["securityContext"] = POD_SECURITY
    return [{"trafficPercent": percent, "predictor": spec}]


def canary_name(service: Manifest) -> str:
    """Of the canary's children: another one for every version and spec."""
    return f"c{_digest(service['spec']['predictor']['labels'])}"


def disruption_budget(service: Manifest) -> Manifest:
    """At most one pod of the live `service` is taken away at once, when nodes are drained.

    It goes away with the service.
    """
    name = service["metadata"]["name"]
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": name,
        "uid": service["metadata"]["uid"],
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}, "ownerReferences": [owner]},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {SERVICE_LABEL: name}}},
    }


def version_of(spec: Manifest) -> str:
    """The model version that an InferenceService's spec asks for."""
    return spec["predictor"].get("labels", {}).get(VERSION_LABEL, "an unknown version")


def is_managed(service: Manifest) -> bool:
    return service["metadata"].get("labels", {}).get(MANAGED_BY) == MANAGER


def mode_of(service: Manifest) -> str:
    """Standard or Knative, "" where nothing says so; the names of earlier releases are translated."""
    noted = service["metadata"].get("annotations", {}).get(MODE_ANNOTATION)
    noted = noted or service.get("status", {}).get("deploymentMode", "")
    return {"RawDeployment": "Standard", "Serverless": "Knative"}.get(noted, noted)


def same_content(spec: Manifest, wanted: Manifest) -> bool:
    """Whether `spec` is the one that was written as `wanted`, whatever was tuned in it."""
    labels = spec["predictor"].get("labels", {})
    return labels.get(SPEC_LABEL) == wanted["predictor"]["labels"][SPEC_LABEL]


def change_to(current: Manifest, service: Manifest) -> Manifest:
    """The merge patch that makes `service` of `current`.

    Of a service that defectline made, what was tuned by hand stays; of another one, nothing does.
    """
    spec = service["spec"]
    if is_managed(current):
        there, wanted = current["spec"]["predictor"], spec["predictor"]
        gone = dict.fromkeys(key for key in OWN_FIELDS if key in there and key not in wanted)
        patch: Manifest = {"predictor": {**gone, **wanted}}
        if "canary" in current["spec"]:
            patch["canary"] = None
    else:
        patch = merge_patch(current["spec"], spec)
    return {"metadata": {key: service["metadata"][key] for key in ("labels", "annotations")}, "spec": patch}


def without_canary(spec: Manifest) -> Manifest:
    """The spec that a canary was added to."""
    predictor = {key: value for key, value in spec["predictor"].items() if key != "canaryTrafficPercent"}
    return {**{key: value for key, value in spec.items() if key != "canary"}, "predictor": predictor}


def merge_patch(current: Manifest, wanted: Manifest) -> Manifest:
    """The JSON merge patch (RFC 7386) that turns `current` into `wanted`: null where a key must go."""
    patch: Manifest = dict.fromkeys(current.keys() - wanted.keys())
    for key, value in wanted.items():
        present = current.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            if inner := merge_patch(present, value):
                patch[key] = inner
        elif key not in current or present != value:
            patch[key] = value
    return patch


def _digest(spec: Manifest) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
