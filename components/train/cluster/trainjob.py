"""The TrainJob of a training, as Kubeflow Trainer's API (trainer.kubeflow.org/v1alpha1) has it. Pure."""

from typing import Any

from defectline.components.train.cluster.settings import NodesSettings

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
NODE = "node"
"""The name that Trainer gives to the replicated job that trains, and to its container."""
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
MODULE = "defectline.components.train.cluster"
GCS_MOUNT = "/var/secrets/gcs"


def build(name: str, store: str, settings: NodesSettings) -> dict[str, Any]:
    """The manifest of a TrainJob whose pods run MODULE for what is exchanged by its name in the `store`."""
    variables = {"KERAS_BACKEND": "jax", "HOME": "/tmp", **settings.env}
    env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in variables.items()]
    for secret, keys in settings.secret_env.items():
        for key, variable in keys.items():
            reference = {"secretKeyRef": {"name": secret, "key": key}}
            env.append({"name": variable, "valueFrom": reference})
    if settings.gcs_secret:
        env.append({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{GCS_MOUNT}/key.json"})
    trainer = {
        "image": settings.image,
        "command": ["python3", "-m", MODULE],
        "args": [store, name],
        "numNodes": settings.nodes,
        "env": env,
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


def _patch(settings: NodesSettings) -> dict[str, Any]:
    """What of the pods the trainer's fields cannot say; nothing where there is nothing to say."""
    pod: dict[str, Any] = {}
    if settings.pull_secret:
        pod["imagePullSecrets"] = [{"name": settings.pull_secret}]
    if settings.node_selector:
        pod["nodeSelector"] = settings.node_selector
    if settings.tolerations:
        pod["tolerations"] = settings.tolerations
    if settings.gcs_secret:
        pod["volumes"] = [{"name": "gcs", "secret": {"secretName": settings.gcs_secret}}]
        mount = {"name": "gcs", "mountPath": GCS_MOUNT, "readOnly": True}
        pod["containers"] = [{"name": NODE, "volumeMounts": [mount]}]
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
