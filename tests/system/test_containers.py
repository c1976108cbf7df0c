"""The compiled pipeline in the images: every step and every served pod is a container without rights.

Their network is the host's, whose loopback has the S3 server and the stand-in of a cluster.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.api import ApiServer
from cluster.controller import Controller
from cluster.pods import Pods
from cluster.world import ACCOUNT, NAME, NAMESPACE, put_account
from containers import BUILT, STRICT, USER, docker, find_engine, make_images  # noqa: F401
from servers import S3Server
from stores import only_outcome

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.storage import open_storage
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.images import reference
from defectline.pipeline.targets import Target

RUN = """
import json, os, sys
from docker.types import Mount
from kfp import components, local

package, root, home, user, arguments = sys.argv[1:]
os.umask(0)  # the containers' user writes into folders that are made here
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


@pytest.mark.images
def test_the_whole_pipeline_in_containers(
    registry: str,
    s3_server: S3Server,
    pods: Pods,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    generate_samples(tmp_path / "samples", pairs=24, size=64)
    source = f"{pods.store.uri.removesuffix('/store')}/labelled"
    open_storage(source).upload_folder(tmp_path / "samples", "")
    package, lock, root, home = (tmp_path / part for part in ("pipeline.yaml", "lock.json", "root", "home"))
    lock.write_text(json.dumps({target: reference(target, registry) for target in BUILT}))
    kserve = {"namespace": NAMESPACE, "service_account": ACCOUNT}
    target = Target(name="cluster", kserve=kserve, s3_endpoint=s3_server.url, s3_region="us-east-1", shards=2)
    compile_pipeline(package, lock, target)
    # What a secret of the steps and their service account hold on a cluster.
    for part in (".aws", ".kube"):
        (home / part).mkdir(parents=True)
    keys = f"aws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    (home / ".aws/credentials").write_text(f"[default]\n{keys}")
    pods.api.write_kubeconfig(home / ".kube/config")
    root.mkdir()
    root.chmod(0o777)
    arguments = {"source": source, "store": pods.store.uri, "image_size": 64, "epochs": 1}
    arguments |= {"batch_size": 8, "quantize": False, "min_iou": 0.0, "max_escape": 1.0, "max_overkill": 1.0}
    done = subprocess.run(
        [sys.executable, "-c", RUN, package, root, home, USER, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    said = done.stdout[-4000:] + done.stderr[-4000:]
    assert done.returncode == 0, said
    # The runner may take a container that failed for one that did not: what they left behind counts.
    outcome = only_outcome(pods.store)
    assert outcome is not None, said
    assert outcome.state == "deployed", said
    service = pods.api.find("inferenceservices", NAMESPACE, NAME)
    assert service is not None
    assert service["spec"]["predictor"]["model"]["storageUri"].endswith(f"/{outcome.version}/")
    assert pods.urls.keys() == {NAME, f"{NAME}-candidate"}
    picture = next((tmp_path / "samples/NG").glob("*.png")).read_bytes()
    status, answered = pods.answer("", f"/v1/models/{NAME}:predict", picture)
    assert (status, answered["predictions"][0]["model_version"]) == (200, outcome.version)
