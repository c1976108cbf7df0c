"""The compiled pipeline in the images: every step and every served pod is a container without rights.

Their network is the host's, whose loopback has the S3 server and the stand-in of a cluster.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from cluster.api import ApiServer
from cluster.controller import Controller
from cluster.pods import Pods
from cluster.world import ACCOUNT, NAME, NAMESPACE, put_account
from compiled import fill_in_labels
from containers import BUILT, DOCKER, STRICT, USER, docker, find_engine, make_images  # noqa: F401
from servers import S3Server

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.records import Outcome, read_outcome
from defectline.components.common.reporting.step_record import StepRecord, find_reason, read_steps
from defectline.components.common.storage import open_storage
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.images import reference
from defectline.pipeline.targets import Target

RUN = """
import json, os, sys
from docker.types import Mount
from kfp import components, local
from kfp.local import placeholder_utils

package, root, home, user, run, arguments = sys.argv[1:]
os.umask(0)  # the containers' user writes into folders that are made here
placeholder_utils.make_random_id = lambda: run
local.init(
    local.DockerRunner(
        network_mode="host", user=user, read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        entrypoint=[""],  # Kubernetes replaces it by the step's command
        mounts=[Mount(f"/tmp/{part}", f"{home}/{part}", "bind", True) for part in (".aws", ".kube")],
    ),
    pipeline_root=root,
)
components.load_component_from_file(package)(**json.loads(arguments))
"""

RUN_ID = "12345678"


@pytest.fixture
def keys(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the store as the test reads it."""
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def pods(s3_server: S3Server, tmp_path: Path) -> Iterator[Pods]:
    api, started = ApiServer(), []

    def launch(image: str, models: Path, port: int, arguments: list[str]) -> None:
        started.append(f"defectline-test-{port}")
        done = docker(
            *("run", "--detach", "--name", started[-1], "--network", "host", *STRICT),
            *("--volume", f"{models}:/mnt/models:ro", image, *arguments),
        )
        assert done.returncode == 0, done.stderr

    store = open_storage(f"s3://{s3_server.new_bucket()}/store")
    found = Pods(api, store, tmp_path / "models", launch)
    Controller(api, found)
    with api.running(), found.running():
        put_account(api, s3_server.url)
        try:
            yield found
        finally:
            for name in started:
                docker("rm", "--force", name)


class Ran(NamedTuple):
    returncode: int
    said: str
    outcome: Outcome | None
    steps: list[StepRecord]


Run = Callable[..., Ran]


@pytest.fixture
def run(registry: str, s3_server: S3Server, pods: Pods, tmp_path: Path, keys: None) -> Run:
    """Runs the compiled pipeline on a source, with these arguments."""
    package, lock, root, home = (tmp_path / part for part in ("pipeline.yaml", "lock.json", "root", "home"))
    lock.write_text(json.dumps({target: reference(target, registry) for target in BUILT}))
    kserve = {"namespace": NAMESPACE, "service_account": ACCOUNT}
    # KFP's local runner tries failed steps again, which Argo with KFP's settings does not.
    target = Target(
        name="cluster",
        kserve=kserve,
        s3_endpoint=s3_server.url,
        s3_region="us-east-1",
        shards=2,
        retries=0,
    )
    compile_pipeline(package, lock, target)
    fill_in_labels(package, RUN_ID)
    # What a secret of the steps and their service account hold on a cluster.
    for part in (".aws", ".kube"):
        (home / part).mkdir(parents=True)
    keys = f"aws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    (home / ".aws/credentials").write_text(f"[default]\n{keys}")
    pods.api.write_kubeconfig(home / ".kube/config")
    root.mkdir()
    root.chmod(0o777)

    def run(source: str, **arguments: object) -> Ran:
        given = json.dumps({"source": source, "store": pods.store.uri, **arguments})
        done = subprocess.run(
            [sys.executable, "-c", RUN, package, root, home, USER, RUN_ID, given],
            capture_output=True,
            text=True,
            timeout=1800,
        )
        said = done.stdout[-4000:] + done.stderr[-4000:]
        outcome = read_outcome(pods.store, RUN_ID)
        return Ran(done.returncode, said, outcome, read_steps(pods.store, RUN_ID))

    return run


@pytest.mark.images
def test_the_whole_pipeline_in_containers(run: Run, pods: Pods, tmp_path: Path) -> None:
    generate_samples(tmp_path / "samples", pairs=24, size=64)
    source = f"{pods.store.uri.removesuffix('/store')}/labelled"
    open_storage(source).upload_folder(tmp_path / "samples", "")
    done = run(
        source,
        image_size=64,
        epochs=1,
        batch_size=8,
        training="pretraining_steps=2",
        quantize=False,
        min_iou=0.0,
        max_escape=1.0,
        max_overkill=1.0,
    )
    assert done.returncode == 0, done.said
    # The runner may take a container that failed for one that did not: what they left behind counts.
    assert done.outcome is not None, done.said
    assert done.outcome.state == "deployed", done.said
    assert {(step.title, step.state) for step in done.steps} == {
        (title, "done")
        for title in (
            *("plan", "read", "ingest", "preprocess 1 of 2", "preprocess 2 of 2"),
            *("train", "find-champion", "calibrate", "judge", "evaluate", "deploy"),
        )
    }
    service = pods.api.find("inferenceservices", NAMESPACE, NAME)
    assert service is not None
    assert service["spec"]["predictor"]["model"]["storageUri"].endswith(f"/{done.outcome.version}/")
    assert pods.urls.keys() == {NAME, f"{NAME}-candidate"}
    picture = next((tmp_path / "samples/NG").glob("*.png")).read_bytes()
    status, answered = pods.answer("", f"/v1/models/{NAME}:predict", picture)
    assert (status, answered["predictions"][0]["model_version"]) == (200, done.outcome.version)


@pytest.mark.images
def test_a_wrong_source_is_the_reason_of_the_outcome(run: Run, pods: Pods) -> None:
    """KFP hands on neither the message of a step that failed nor its error."""
    done = run("s3://no-such-bucket/labelled")
    assert done.returncode != 0
    assert done.outcome is not None, done.said
    assert done.outcome.state == "failed"
    assert done.outcome.reason.startswith("failed in plan: s3://no-such-bucket/labelled cannot be")
    (planned,) = done.steps
    assert "create the bucket" in planned.detail


# A step alone, in its image

HOLD = """
import hashlib, sys
from defectline.components.common.steps import step
with step("train", sys.argv[1]):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"outside of", b"Python", 2**31 - 1)
"""
FILL = """
import sys
from defectline.components.common.reporting.memory import read_memory
from defectline.components.common.reporting.recorder import Recorder
from defectline.components.common.steps import step
Recorder.EVERY_S = 0.05
with step("train", sys.argv[1]):
    held = []
    while read_memory().highest_bytes < 0.95 * read_memory().limit_bytes:
        held.append(bytearray(b"x") * (1 << 20))
    print("full", flush=True)
    sys.stdin.readline()
    while True:
        held.append(bytearray(b"x") * (1 << 20))
"""


@pytest.fixture
def start(registry: str, s3_server: S3Server, pods: Pods) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program in a step's image, as a container of this name."""
    started = []

    def start(name: str, code: str, *options: str) -> subprocess.Popen[str]:
        env = {**s3_server.env, "DEFECTLINE_RUN": RUN_ID}
        variables = [part for item in env.items() for part in ("--env", "=".join(item))]
        command = [
            *(DOCKER, "run", "--interactive", "--name", name, "--network", "host", *STRICT, *variables),
            *(*options, "--entrypoint", "python3", reference("ingest", registry), "-c", code, pods.store.uri),
        ]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append((name, process))
        return process

    yield start
    for name, process in started:
        docker("rm", "--force", name)
        process.communicate(timeout=60)


def left_by(pods: Pods, good: Callable[[StepRecord], bool]) -> StepRecord:
    """The record of the one step, once it is like that."""
    deadline = time.monotonic() + 60
    while True:
        records = read_steps(pods.store, RUN_ID)
        if records and good(records[0]):
            return records[0]
        assert time.monotonic() < deadline, records
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    while said := process.stdout.readline():
        if said.strip() == line:
            return
    pytest.fail(f"the container ended with {process.wait()}")


@pytest.mark.images
@pytest.mark.usefixtures("keys")
def test_a_container_that_is_stopped_says_so(start, pods: Pods) -> None:
    name = f"defectline-test-{uuid4().hex[:8]}"
    process = start(name, HOLD)
    read_until(process, "busy")
    left_by(pods, lambda record: record.state == "running")
    assert docker("stop", "--time", "30", name).returncode == 0
    assert process.wait(60) == 128 + signal.SIGTERM
    assert left_by(pods, lambda record: True).state == "stopped"


@pytest.mark.images
@pytest.mark.usefixtures("keys")
def test_a_container_that_is_killed_for_memory_has_left_how_full_it_was(start, pods: Pods) -> None:
    name = f"defectline-test-{uuid4().hex[:8]}"
    process = start(name, FILL, "--memory", "400m", "--memory-swap", "400m")
    read_until(process, "full")
    left_by(pods, lambda record: record.memory is not None)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(60) == 128 + signal.SIGKILL
    found = find_reason(read_steps(pods.store, RUN_ID))
    assert found is not None
    assert re.match(r"killed in train at 0\.3\d of 0\.39 GiB of memory: give it more", found.text)
