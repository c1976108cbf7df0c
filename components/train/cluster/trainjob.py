"""The TrainJob of a training, as Kubeflow Trainer's API (trainer.kubeflow.org/v1alpha1) has it. Pure."""

from typing import Any

from defectline.components.train.cluster.settings import NodesSettings, PodSettings

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
NODE = "node"
"""The name that Trainer gives to the replicated job that trains, and to its container."""
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
MODULE = "defectline.components.train.cluster"
GCS_MOUNT = "/var/secrets/gcs"


def build(name: str, store: str, settings: NodesSettings) -> dict[str, Any]:
    """The manifest of a TrainJob whose pods run MODULE for what is exchanged by its name in the `store`."""
    trainer = {
        "image": settings.image,
        "command": ["python3", "-m", MODULE],
        "args": [store, name],
        "numNodes": settings.nodes,
        "env": [{"name": "KERAS_BACKEND", "value": "jax"}, *environment(settings)],
    }
    if settings.resources:
        trainer["resourcesPerNode"] = settings.resources
    patch = _patch(settings)
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "defectline"}},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": settings.runtime},
            "activeDeadlineSeconds": settings.timeout_s,
            "trainer": trainer,
            **({"runtimePatches": [patch]} if patch else {}),
        },
    }


def environment(settings: PodSettings) -> list[dict[str, Any]]:
    """The `env` of a container that trains."""
    variables = {"HOME": "/tmp", **settings.env}
    env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in variables.items()]
    for secret, keys in settings.secret_env.items():
        for key, variable in keys.items():
            reference = {"secretKeyRef": {"name": secret, "key": key}}
            env.append({"name": variable, "valueFrom": reference})
    if settings.gcs_secret:
        env.append({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{GCS_MOUNT}/key.json"})
    return env


def pod_fields(settings: PodSettings) -> dict[str, Any]:
    """What a pod's spec says beside its containers; nothing where there is nothing to say."""
    volume = {"name": "gcs", "secret": {"secretName": settings.gcs_secret}}
    fields = {
        "imagePullSecrets": [{"name": settings.pull_secret}] if settings.pull_secret else [],
        "nodeSelector": settings.node_selector,
        "tolerations": settings.tolerations,
        "volumes": [volume] if settings.gcs_secret else [],
    }
    return {name: value for name, value in fields.items() if value}


def mounts(settings: PodSettings) -> list[dict[str, Any]]:
    """The `volumeMounts` of a container that trains."""
    return [{"name": "gcs", "mountPath": GCS_MOUNT, "readOnly": True}] if settings.gcs_secret else []


def _patch(settings: NodesSettings) -> dict[str, Any]:
    """What of the pods the trainer's fields cannot say; nothing where there is nothing to say."""
    pod = pod_fields(settings)
    if found := mounts(settings):
        pod["containers"] = [{"name": NODE, "volumeMounts": found}]
    if not pod:
        return {}
    job = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    spec = {"template": {"spec": {"replicatedJobs": [job]}}}
    return {"manager": "defectline.dev/train", "trainingRuntimeSpec": spec}


def outcome(job: dict[str, Any]) -> tuple[str, str]:
    """`Complete` or `Failed`, and what is said of it; both are empty while it goes on."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return condition["type"], condition.get("message") or condition.get("reason") or ""
    return "", ""
