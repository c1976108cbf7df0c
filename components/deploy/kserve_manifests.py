"""What a deployment is in Kubernetes, as plain dicts: pure functions of settings, version and files."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Manifest = dict[str, Any]

GROUP = "serving.kserve.io"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "defectline"
VERSION_LABEL = "defectline.dev/model-version"
SPEC_LABEL = "defectline.dev/spec"
"""Digest of the whole spec: tells a Deployment that has it from one that has not got there yet."""
MODE_ANNOTATION = f"{GROUP}/deploymentMode"

MODEL_FORMAT = {"name": "defectline", "version": "1"}
HTTP_PORT = 8080
PRE_STOP_S = 10
"""A pod goes on serving for so long after it was told to stop, until no route leads to it any more."""
GRACE_S = 60
"""More than PRE_STOP_S and the 30 s that the server gives to requests under way."""


class KServeSettings(BaseModel):
    """How and where the endpoint runs on KServe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(min_length=1)
    image: str
    """The serve image, with a digest or a tag that never moves."""
    service_account: str = ""
    """Its secrets let KServe fetch the model; empty for the namespace's default."""
    deployment_mode: Literal["Standard", "Knative"] = "Standard"
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    cpu: str = "1"
    memory: str = "1Gi"
    url: str = ""
    """Where to ask the service instead of the address in its status, for example a gateway."""
    host_header: str = ""
    """The Host that such a gateway routes by."""
    timeout_s: float = Field(default=600, gt=0)
    """For a rollout; going back after a failed one gets the same time again."""

    @field_validator("image")
    @classmethod
    def _pinned(cls, image: str) -> str:
        name, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and (not name or tag in ("", "latest")):
            raise ValueError(f"{image!r} may change under a running service: name a digest or a tag")
        return image

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}")
        # KServe's autoscaler drops to fewer pods in the middle of a rollout.
        if self.deployment_mode == "Standard" and not 1 <= self.min_replicas == self.max_replicas:
            raise ValueError("Standard mode keeps a fixed number of pods: min_replicas = max_replicas ≥ 1")
        return self


def serving_runtime(settings: KServeSettings) -> Manifest:
    """The ServingRuntime for these settings, named by the digest of its spec, so never changed."""
    health = {"httpGet": {"path": "/v2/models/{{.Name}}/ready", "port": HTTP_PORT}, "timeoutSeconds": 5}
    amounts = {"cpu": settings.cpu, "memory": settings.memory}
    container: Manifest = {
        "name": "kserve-container",
        "image": settings.image,
        "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models", f"--http_port={HTTP_PORT}"],
        "ports": [{"containerPort": HTTP_PORT, "protocol": "TCP"}],
        "startupProbe": {**health, "periodSeconds": 3, "failureThreshold": 60},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
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
    if settings.deployment_mode == "Standard":  # Knative drains pods itself and refuses hooks
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_S)]}}}
    spec = {
        "supportedModelFormats": [{**MODEL_FORMAT, "autoSelect": False}],
        "protocolVersions": ["v1", "v2"],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": f"{OURS}-{_digest(spec)}", "labels": {MANAGED_BY: OURS}},
        "spec": spec,
    }


def inference_service(name: str, version: str, storage_uri: str, settings: KServeSettings) -> Manifest:
    """The InferenceService that serves `version` from `storage_uri`, which ends with a slash.

    Without the slash KServe would also fetch every sibling whose name starts alike.
    """
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
    annotations: dict[str, str] = {MODE_ANNOTATION: settings.deployment_mode}
    if settings.deployment_mode == "Standard":
        annotations[f"{GROUP}/autoscalerClass"] = "none"
        predictor["terminationGracePeriodSeconds"] = GRACE_S
        predictor["deploymentStrategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        }
    predictor["labels"] = {VERSION_LABEL: version, SPEC_LABEL: _digest(predictor)}
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {MANAGED_BY: OURS}, "annotations": annotations},
        "spec": {"predictor": predictor},
    }


def version_of(spec: Manifest) -> str:
    """The model version that an InferenceService's spec asks for."""
    return spec["predictor"].get("labels", {}).get(VERSION_LABEL, "an unknown version")


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
