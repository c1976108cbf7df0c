"""Served pods that keep frames for review: what deploying gives them, and that it is enough."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster.world import (
    NAME,
    NAMESPACE,
    SETTINGS,
    World,
    kserve,
    make_world,  # noqa: F401
)
from endpoints import error_of, near_and_far, post, wait_until_ready
from networks import judge_model
from servers import S3Server, free_port

from defectline.components.common.errors import StoreError
from defectline.components.common.storage import open_storage
from defectline.pipeline.catalog.review import list_frames

SECRET = "defectline-review"


ON_S3 = SETTINGS.model_copy(update={"review": "s3://plates/store", "review_secret": SECRET})


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def put_secret(world: World, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    world.api.put("secrets", NAMESPACE, SECRET, {"data": data})


def running_container(world: World) -> dict[str, Any]:
    """The container of the runtime that the live service names."""
    name = world.spec()["predictor"]["model"]["runtime"]
    runtime = world.api.find("servingruntimes", NAMESPACE, name)
    assert runtime is not None
    [found] = runtime["spec"]["containers"]
    return found


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
    kserve(world.store, settings).deploy(judged.folder, judged.bundle, "run")
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
    assert item.frame.reason == "near_level"
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
    world.roll_back()
    assert f"--review={world.store.uri}" in running_container(world)["args"]
    world.ask(0)
