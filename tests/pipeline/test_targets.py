"""What a cluster is told of each step."""

import dataclasses
import json

import pytest
import yaml
from compiled import CLUSTER, STEPS, executors, tasks

from defectline.components.common.errors import SettingsError
from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.train.cluster.settings import NodesSettings
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.targets import S3_KEYS


def test_secrets_are_named_never_held(documents, compiled):
    _, platform = documents
    text = compiled.read_text()
    for word in ("AKIA", "BEGIN PRIVATE KEY", "password"):
        assert word not in text
    for step in STEPS:
        config = platform[f"exec-{step}"]
        assert [s["secretName"] for s in config["secretAsEnv"]] == ["s3-keys"]
        assert [s["secretName"] for s in config["secretAsVolume"]] == ["gcs-key"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("s3_secret", "Bad Name"),
        ("gcs_secret", "key_json"),
        ("pull_secret", "a" * 254),
        ("s3_endpoint", "s3.example.com"),
        ("s3_endpoint", "ftp://s3.example.com"),
        ("s3_endpoint", "http://s3.example.com:no"),
    ],
)
def test_what_no_pod_could_use_is_refused_when_the_target_is_made(option, value):
    with pytest.raises(SettingsError, match=f"--{option.replace('_', '-')}"):
        dataclasses.replace(CLUSTER, **{option: value})


def test_only_training_takes_a_gpu(documents):
    spec, platform = documents
    for step, container in executors(spec).items():
        accelerator = container.get("resources", {}).get("accelerator")
        assert bool(accelerator) == (step == "train"), step
        assert bool(platform[f"exec-{step}"].get("tolerations")) == (step == "train")
    assert executors(spec)["train"]["image"].count("train-gpu") == 1


def test_on_several_nodes_the_step_starts_pods_that_train(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, nodes=4))
    spec, platform = yaml.safe_load_all(path.read_text())
    inputs = dict(tasks(spec))["train"]["inputs"]["parameters"]
    given = inputs["nodes"]["runtimeValue"]["constant"]
    nodes = NodesSettings(**given)
    assert nodes.nodes == 4
    assert "/defectline-train-jax:" in nodes.image
    assert nodes.resources["limits"][CLUSTER.gpu_type] == str(CLUSTER.gpus)
    assert nodes.node_selector == CLUSTER.node_selector
    assert nodes.secret_env == {CLUSTER.s3_secret: S3_KEYS}
    # The step itself needs neither a GPU nor an image of several GB.
    assert executors(spec)["train"]["image"] == executors(spec)["deploy"]["image"]
    assert "accelerator" not in executors(spec)["train"]["resources"]
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert "tolerations" not in config


def test_every_step_has_limits_and_a_timeout(documents):
    spec, platform = documents
    for step, container in executors(spec).items():
        assert container["resources"]["resourceMemoryLimit"], step
        assert platform[f"exec-{step}"]["activeDeadlineSeconds"], step
        assert platform[f"exec-{step}"]["securityContext"]["runAsNonRoot"], step


def test_every_step_knows_its_run_though_that_is_no_input(documents):
    """An input would be part of the key of KFP's cache, and no step would ever be found there."""
    spec, platform = documents
    known = {"name": RUN_ENV, "fieldPath": "metadata.labels['pipeline/runid']"}
    for step in STEPS:
        assert platform[f"exec-{step}"]["fieldPathAsEnv"] == [known], step
    for step in ("preprocess", "train"):
        inputs = spec["components"][f"comp-{step}"]["inputDefinitions"]["parameters"]
        assert inputs.keys().isdisjoint({"run", "run_id"})


@pytest.mark.parametrize("retries", [0, 3])
def test_how_often_a_step_whose_pod_is_lost_starts_again(tmp_path, retries):
    """KFP's settings of Argo say 2 where a step says nothing, so 0 has to be said too."""
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, retries=retries))
    found = {
        name: task.get("retryPolicy") for name, task in tasks(next(yaml.safe_load_all(path.read_text())))
    }
    for step in STEPS:
        assert found[step] is not None, step
        assert found[step].get("maxRetryCount", 0) == retries, step


@pytest.mark.parametrize(("user", "expected"), [(1000, {1000}), (0, {None})])
def test_the_user_of_the_steps(tmp_path, user, expected):
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(path, None, dataclasses.replace(CLUSTER, run_as_user=user))
    _, platform = yaml.safe_load_all(path.read_text())
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    contexts = [step["securityContext"] for step in steps]
    assert all(context["runAsNonRoot"] for context in contexts)
    assert {int(one) if (one := context.get("runAsUser")) else None for context in contexts} == expected


def test_evaluate_alone_sees_the_signing_key_and_deploy_the_public_ones(tmp_path):
    target = dataclasses.replace(
        CLUSTER, sign_secret="plates-sign", kserve={**CLUSTER.kserve, "trust": "plates-trust"}
    )
    compile_pipeline(tmp_path / "pipeline.yaml", None, target)
    spec, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    told = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    signs, trusts = [], []
    for step, container in executors(spec).items():
        config = told[f"exec-{step}"]
        secrets = {one["secretName"]: one for one in config["secretAsEnv"] if one["secretName"] != "s3-keys"}
        if secrets:
            signs.append(step)
        if "configMapAsVolume" in config:
            trusts.append(step)
            (mount,) = config["configMapAsVolume"]
            env = {one["name"]: one["value"] for one in container["env"]}
            assert env["DEFECTLINE_TRUST"] == mount["mountPath"]
            assert mount["configMapName"] == "plates-trust"
    assert signs == ["evaluate"]
    assert trusts == ["deploy"]
    keys = [
        (pair["secretKey"], pair["envVar"], one.get("optional", False))
        for one in told["exec-evaluate"]["secretAsEnv"]
        if one["secretName"] == "plates-sign"
        for pair in one["keyToEnv"]
    ]
    assert keys == [
        ("sign.key", "DEFECTLINE_SIGN_KEY", False),
        ("password", "DEFECTLINE_SIGN_KEY_PASSWORD", True),
    ]


def test_deploy_alone_gets_the_login_of_the_registry(tmp_path):
    target = dataclasses.replace(CLUSTER, push_secret="plates-push")
    compile_pipeline(tmp_path / "pipeline.yaml", None, target)
    spec, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    told = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounted = {
        step: one["mountPath"]
        for step in executors(spec)
        for one in told[f"exec-{step}"].get("secretAsVolume", [])
        if one["secretName"] == "plates-push"
    }
    env = {one["name"]: one["value"] for one in executors(spec)["deploy"]["env"]}
    assert mounted == {"deploy": env["DOCKER_CONFIG"]}


def test_evaluate_is_told_which_images_made_the_bundle(documents):
    env = {one["name"]: one["value"] for one in executors(documents[0])["evaluate"]["env"]}
    assert set(json.loads(env["DEFECTLINE_IMAGES"])) == {
        "ingest",
        "preprocess",
        "train",
        "evaluate",
        "deploy",
        "serve",
    }
