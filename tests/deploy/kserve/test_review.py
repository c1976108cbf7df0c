"""Served pods that keep frames for review: what deploying gives them, and that it is enough."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster.world import (
    ACCOUNT,
    NAME,
    NAMESPACE,
    SETTINGS,
    TWO,
    World,
    make_world,  # noqa: F401
)
from endpoints import error_of, near_and_far, post, wait_until_ready
from networks import judge_model
from pydantic import ValidationError
from servers import S3Server, free_port

from defectline.components.common.errors import StoreError
from defectline.components.common.storage import open_storage
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.manifests import (
    KServeSettings,
    candidate_settings,
    serving_runtime,
)
from defectline.components.deploy.kserve.preflight import Finding, preflight
from defectline.components.deploy.kserve.rollout import deploy_kserve
from defectline.components.deploy.rollback import roll_back
from defectline.pipeline.catalog.review import list_frames

SECRET = "defectline-review"
ON_S3 = SETTINGS.model_copy(update={"review": "s3://plates/store", "review_secret": SECRET})
ON_GCS = ON_S3.model_copy(update={"review": "gs://plates/store"})
BY_ACCOUNT = ON_S3.model_copy(update={"review_secret": ""})
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def put_secret(world: World, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    world.api.put("secrets", NAMESPACE, SECRET, {"data": data})


def container(settings: KServeSettings) -> dict[str, Any]:
    [found] = serving_runtime(settings)["spec"]["containers"]
    return found


def running_container(world: World) -> dict[str, Any]:
    """The container of the runtime that the live service names."""
    name = world.spec()["predictor"]["model"]["runtime"]
    runtime = world.api.find("servingruntimes", NAMESPACE, name)
    assert runtime is not None
    [found] = runtime["spec"]["containers"]
    return found


def test_the_pods_get_the_place_and_the_keys() -> None:
    assert "--review=s3://plates/store" in container(BY_ACCOUNT)["args"]
    assert "env" not in container(BY_ACCOUNT)
    references = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container(ON_S3)["env"]}
    assert {one["name"] for one in references.values()} == {SECRET}
    # A pod starts without the keys that are not needed everywhere.
    assert {key for key, one in references.items() if one["optional"]} == {
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
    }
    [file] = container(ON_GCS)["env"]
    mount = next(one for one in container(ON_GCS)["volumeMounts"] if one["name"] == "review")
    assert file == {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{mount['mountPath']}/key.json"}
    volumes = serving_runtime(ON_GCS)["spec"]["volumes"]
    assert {"name": "review", "secret": {"secretName": SECRET}} in volumes


def test_a_candidate_keeps_none_and_without_review_nothing_is_given() -> None:
    assert serving_runtime(candidate_settings(ON_S3)) == serving_runtime(SETTINGS)
    assert not any(argument.startswith("--review") for argument in container(SETTINGS)["args"])
    assert "env" not in container(SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"review": "/mnt/review"}, "no store that pods can write to"),
        ({"review": "s3:///store"}, "no store that pods can write to"),
        ({"review_secret": SECRET}, "review_secret is for writing to review"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KServeSettings(namespace=NAMESPACE, image="registry.example/serve:1", **settings)


def test_a_pod_as_it_was_deployed_keeps_frames_with_the_rights_that_are_documented(
    world: World, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deployed container's own arguments and environment, in a process instead of a pod."""
    judged = judge_model(tmp_path / "judged")
    world.endpoint.add(judged.folder, judged.bundle)
    settings = ON_S3.model_copy(update={"review": world.store.uri})
    put_secret(
        world,
        AWS_ACCESS_KEY_ID=s3_server.reviewer_key,
        AWS_SECRET_ACCESS_KEY=s3_server.reviewer_secret,
        AWS_ENDPOINT_URL_S3=s3_server.url,
    )
    deploy_kserve(judged.folder, judged.bundle, world.store, NAME, settings, poll_s=0.01)
    found, port, models = running_container(world), free_port(), tmp_path / "models"
    # What KServe does before the container starts.
    world.store.download_folder(f"serving/{NAME}/{judged.bundle.version}", models)
    filled = {"{{.Name}}": NAME, "/mnt/models": str(models), "--http_port=8080": f"--http_port={port}"}
    arguments = found["args"]
    for placeholder, value in filled.items():
        arguments = [argument.replace(placeholder, value) for argument in arguments]
    secret = world.api.find("secrets", NAMESPACE, SECRET)
    assert secret is not None
    given = {
        one["name"]: base64.b64decode(secret["data"][one["valueFrom"]["secretKeyRef"]["key"]]).decode()
        for one in found["env"]
        if one["valueFrom"]["secretKeyRef"]["key"] in secret["data"]
    }
    # No right of the tests' own: only what the container has.
    without = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    without |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    near, _ = near_and_far(judged)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "defectline.components.serve", *arguments, "--drain_ms=0"],
            env=without | given,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url, NAME, log)
        answered = post(f"{url}/v1/models/{NAME}:predict", near, "image/png")
        assert answered.status_code == 200, error_of(answered)
        # It writes what is waiting before it ends.
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    [item] = list_frames(world.store, NAME, pytest.fail)
    assert item.frame.version == judged.bundle.version
    assert item.frame.reason == "near_threshold"
    # Nothing else is open to these keys.
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(StoreError, match=r"bundle\.json cannot be written") as caught:
        open_storage(world.store.uri).write("models/defects/v1/bundle.json", b"{}")
    assert "AccessDenied" in caught.value.got


def test_review_can_be_switched_off_and_a_rollback_keeps_it_as_it_is(world: World) -> None:
    put_secret(world, **KEYS, AWS_ENDPOINT_URL_S3="http://s3:9000")
    on = ON_S3.model_copy(update={"review": world.store.uri})
    world.deploy(0, on)
    assert f"--review={world.store.uri}" in running_container(world)["args"]
    world.deploy(0, SETTINGS)
    assert "env" not in running_container(world)
    world.deploy(1, on)
    roll_back(world.store.uri, NAME, NAMESPACE, "", poll_s=0.01)
    assert f"--review={world.store.uri}" in running_container(world)["args"]
    world.ask(0)


def findings(world: World, settings: KServeSettings) -> list[Finding]:
    found = preflight(Cluster(NAMESPACE), NAME, world.store.uri, settings)
    assert world.writes() == []
    return found


@pytest.mark.parametrize(
    ("settings", "keys", "what", "expected"),
    [
        (ON_S3, None, f"Secret {SECRET} is missing.", "`review_secret`"),
        (ON_S3, {"accesskey": "k"}, f"by secret {SECRET}.", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (
            ON_S3,
            KEYS,
            "would not write to s3://plates/store where this step",
            "the endpoint that this step uses",
        ),
        (ON_GCS, KEYS, "cannot write to gs://plates/store", "key.json"),
        (BY_ACCOUNT, None, "Nothing lets the pods write to s3://plates/store.", "rights to write frames"),
    ],
)
def test_keys_that_would_not_do_are_found_before_anything_is_written(
    world: World, settings: KServeSettings, keys: dict[str, str] | None, what: str, expected: str
) -> None:
    if keys is not None:
        put_secret(world, **keys)
    [found] = findings(world, settings)
    assert found.looked
    assert what in found.what
    assert expected in found.expected


def test_nothing_is_found_where_the_pods_can_write(world: World) -> None:
    put_secret(world, **KEYS, AWS_ENDPOINT_URL_S3="http://s3:9000")
    assert findings(world, TWO.model_copy(update={"review": "s3://b/s", "review_secret": SECRET})) == []
    put_secret(world, **{"key.json": "{}"})
    assert findings(world, ON_GCS) == []
    role = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"}}}
    world.api.put("serviceaccounts", NAMESPACE, ACCOUNT, role)
    assert findings(world, BY_ACCOUNT) == []


def test_a_secret_that_may_not_be_read_stops_nothing(world: World) -> None:
    put_secret(world, **KEYS)
    world.api.denied = {("get", "secrets")}
    models, review = findings(world, ON_S3)
    assert not models.looked
    assert (review.what, review.looked) == (f"Secret {SECRET} was not looked at.", False)
