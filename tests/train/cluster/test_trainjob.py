"""The TrainJob is one that Kubeflow Trainer takes."""

from kubeflow_trainer_api import models
from trainer_api import checked, runtime

from defectline.components.train.cluster.settings import NodesSettings
from defectline.components.train.cluster.trainjob import build, outcome

SMALL = NodesSettings(nodes=2, image="registry/train-jax:1")
FULL = NodesSettings(
    nodes=4,
    image="registry/train-jax:1",
    resources={
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
    },
    env={"AWS_REGION": "eu"},
    secret_env={"s3": {"key": "AWS_ACCESS_KEY_ID"}},
    gcs_secret="gcs",
    pull_secret="pull",
    node_selector={"gpu": "a30"},
    tolerations=[{"operator": "Exists", "key": "nvidia.com/gpu"}],
)


def test_trainer_knows_every_field_of_it():
    for settings in (SMALL, FULL):
        job = checked(models.TrainerV1alpha1TrainJob, build("defectline-1", "s3://store", settings))
        assert job["spec"]["runtimeRef"]["name"] == runtime()["metadata"]["name"]
        trainer = job["spec"]["trainer"]
        assert (trainer["numNodes"], trainer["args"]) == (settings.nodes, ["s3://store", "defectline-1"])
        assert {"name": "KERAS_BACKEND", "value": "jax"} in trainer["env"]
    assert "runtimePatches" not in build("defectline-1", "s3://store", SMALL)["spec"]


def test_what_pods_need_besides_is_patched_into_them():
    spec = build("defectline-1", "s3://store", FULL)["spec"]
    (patch,) = spec["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (own,) = runtime()["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert job["name"] == own["name"]
    (container,) = own["template"]["spec"]["template"]["spec"]["containers"]
    assert pod["containers"][0]["name"] == container["name"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["nodeSelector"] == {"gpu": "a30"}
    assert pod["volumes"][0]["secret"] == {"secretName": "gcs"}
    (key,) = (one for one in spec["trainer"]["env"] if "valueFrom" in one)
    assert key["valueFrom"]["secretKeyRef"] == {"name": "s3", "key": "key"}


def test_how_it_ended():
    def job(kind: str, status: str = "True") -> dict:
        return {"status": {"conditions": [{"type": kind, "status": status, "message": "why"}]}}

    assert outcome({}) == outcome(job("Suspended")) == outcome(job("Failed", "False")) == ("", "")
    assert outcome(job("Complete")) == ("Complete", "why")
    assert outcome(job("Failed")) == ("Failed", "why")
