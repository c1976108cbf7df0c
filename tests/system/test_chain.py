"""The whole chain, end to end, with real training on small pictures."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from cluster.api import ApiServer
from cluster.controller import Controller
from cluster.pods import Pods
from cluster.world import ACCOUNT, NAMESPACE, put_account
from commands import SMALL_NETWORK, contents, defectline
from compiled import fill_in_labels
from endpoints import process_of
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from stores import only_outcome

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.ports import free_port
from defectline.components.common.records import read_champion, read_gate, read_outcome
from defectline.components.common.storage import open_storage
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.images import reference
from defectline.pipeline.resources import SMALL as SMALL_NODE
from defectline.pipeline.targets import Target

pytestmark = pytest.mark.slow

SMALL = {"image_size": 64, "epochs": 2, "batch_size": 8, "pretraining": "none"}
OPEN_GATE = {"min_iou": 0.0, "max_escape": 1.0, "max_overkill": 1.0}
STEPS = ["ingest", "find-champion", "preprocess", "train", "evaluate", "deploy"]


def options(**values: object) -> list[str]:
    return [text for key, value in values.items() for text in ("--set", f"{key}={value}")]


def run(
    source: Path, store: Path, *arguments: str, env: Mapping[str, str] | None = None, **values: object
) -> subprocess.CompletedProcess[str]:
    settings = options(**{**SMALL, **OPEN_GATE, **values})
    return defectline("run", "--source", source, "--store", store, *settings, *arguments, env=env)


def steps_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The steps in the final table, sorted as the pipeline lists them."""
    found = re.findall(r"^([a-z-]+) +[0-9]+\.[0-9] ", done.stdout, re.MULTILINE)
    return sorted(found, key=STEPS.index)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    generate_samples(folder / "samples", pairs=24, size=64)
    return folder


@pytest.fixture(scope="module")
def first(place) -> subprocess.CompletedProcess[str]:
    """A first run, from pictures to a champion."""
    return run(place / "samples", place / "store")


def test_first_run_deploys(first, place):
    assert first.returncode == 0, first.stdout + first.stderr
    assert steps_of(first) == STEPS
    for part in ("deployed", "min_iou", "image_auroc", "report.html", "pictures.html", "next"):
        assert part in first.stdout
    store = open_storage(str(place / "store"))
    current, gated = read_champion(store, "defects"), read_gate(store, "defects")
    assert current is not None
    assert gated is not None
    outcome = json.loads(store.read(f"runs/{current.run}/outcome.json"))
    assert (outcome["state"], outcome["version"]) == ("deployed", current.version)
    assert gated.run == current.run
    written = {p.name for p in (place / "store/runs" / current.run).iterdir()}
    assert {"metrics.json", "gate.json", "report.html", "quarantine.csv", "pictures.html"} <= written
    assert "outcome.json" in written
    bundle = place / "store/models/defects" / current.version
    for name in (
        "model.keras",
        "openvino/model.xml",
        "openvino_int8/model.xml",
        "parity.json",
        "onnx/model.onnx",
        "saved_model/1/saved_model.pb",
        "novelty.npz",
        "statistics.json",
    ):
        assert (bundle / name).stat().st_size > 0


def test_second_run_finds_nothing_new(first, place):
    models = contents(place / "store/models")
    done = run(place / "samples", place / "store")
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps_of(done) == ["ingest"]
    assert "nothing new" in done.stdout
    assert contents(place / "store/models") == models


def test_champion_is_served(first, place):
    port = free_port()
    command = [Path(sys.executable).with_name("defectline"), "serve", "--store", place / "store"]
    server = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        picture = next((place / "samples/NG").iterdir())
        curl = ["curl", "-sf", "--retry", "60", "--retry-delay", "1", "--retry-connrefused"]
        curl += ["-H", "Content-Type: image/png", "--data-binary", f"@{picture}"]
        answer = subprocess.run(
            [*curl, f"http://127.0.0.1:{port}/v1/models/defects:predict"], capture_output=True, timeout=120
        )
        prediction = json.loads(answer.stdout)["predictions"][0]
        assert prediction["verdict"] in ("OK", "NG")
        current = read_champion(open_storage(str(place / "store")), "defects")
        assert current is not None
        assert prediction["model_version"] == current.version
        overlays = place / "overlays"
        done = defectline("inspect", picture, "--url", f"http://127.0.0.1:{port}", "--overlays", overlays)
        assert done.returncode == 0, done.stderr
        assert picture.name in done.stdout
        assert len(list(overlays.iterdir())) == 1
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0


def test_new_pairs_retrain_after_a_killed_run_and_a_refused_champion_stays(first, place, tmp_path):
    source, store = tmp_path / "samples", tmp_path / "store"
    shutil.copytree(place / "samples", source)
    shutil.copytree(place / "store", store)
    generate_samples(tmp_path / "more", pairs=34, size=64)
    for folder in ("OK", "NG", "OK_MSK", "NG_MSK"):
        # Numbers 12 to 16 of each label are new; the first five of them in all.
        for path in sorted((tmp_path / "more" / folder).iterdir())[12 : 15 if "OK" in folder else 14]:
            shutil.copy(path, source / folder)
    champion = read_champion(open_storage(str(store)), "defects")

    settings = options(**{**SMALL, **OPEN_GATE, "epochs": 500})
    command = [Path(sys.executable).with_name("defectline"), "run", "--source", source, "--store", store]
    env = os.environ | SMALL_NETWORK
    killed = subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, text=True, env=env)
    assert killed.stdout is not None
    for line in killed.stdout:
        if "train: epoch" in line:
            break
    killed.kill()
    killed.wait()

    refused = run(source, store, "--fail-on-gate", env=SMALL_NETWORK, min_iou=1)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert steps_of(refused) == STEPS[:-1]
    assert "5 new" in refused.stdout
    assert "refused by the gate" in refused.stdout
    assert read_champion(open_storage(str(store)), "defects") == champion

    again = run(source, store, env=SMALL_NETWORK, min_iou=1)
    assert again.returncode == 0, again.stdout + again.stderr
    assert steps_of(again) == ["ingest"]


@pytest.fixture
def pods(s3_server, tmp_path, monkeypatch) -> Iterator[Pods]:
    """A stand-in of a cluster whose pods are processes."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    api, started = ApiServer(), ExitStack()

    def launch(image: str, models: Path, port: int, arguments: list[str]) -> None:
        assert image == reference("serve-gpu")
        arguments = [argument.replace("/mnt/models", str(models)) for argument in arguments]
        command = [sys.executable, "-m", "defectline.components.serve", *arguments]
        started.enter_context(process_of(command, tmp_path / f"{port}.log"))

    found = Pods(api, open_storage(f"s3://{s3_server.new_bucket()}/store"), tmp_path / "models", launch)
    Controller(api, found)
    with api.running(), found.running(), started:
        put_account(api, s3_server.url)
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield found


def test_compiled_with_every_setting_of_a_cluster_it_runs_here_too(place, tmp_path, s3_server, pods):
    target = Target(
        name="cluster",
        kserve={"namespace": NAMESPACE, "service_account": ACCOUNT, "gpu": 1, "memory": "2Gi"},
        gpus=1,
        gpu_type="amd.com/gpu",
        s3_secret="keys",
        s3_endpoint=s3_server.url,
        s3_region="us-east-1",
        gcs_secret="gcs",
        sign_secret="sign",
        push_secret="push",
        pull_secret="registry",
        run_as_user=12345,
        tolerations=({"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
        node_selector={"gpu": "true"},
        retries=1,
        resources=SMALL_NODE,
        shards=3,
        at_once=2,
    )
    # Several nodes train as a TrainJob, which this machine does not have: see tests/train/cluster.
    same = [key for key, value in vars(Target()).items() if getattr(target, key) == value]
    assert same == ["nodes"]
    package, root = tmp_path / "pipeline.yaml", tmp_path / "root"
    compile_pipeline(package, None, target)
    spec, platform = yaml.safe_load_all(package.read_text())
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    configs = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    sharded = {"plan", "read", "calibrate", "judge", "evaluate-judged"}
    assert configs.keys() == {f"exec-{step}" for step in ({*STEPS, "finish"} | sharded) - {"evaluate"}}
    for config in configs.values():
        json_format.ParseDict(config, kubernetes_pb2.KubernetesExecutorConfig())
    source = f"{pods.store.uri.removesuffix('/store')}/labelled"
    open_storage(source).upload_folder(place / "samples", "")
    script = (
        "import json, sys; from kfp import components, local\n"
        "local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])\n"
        "components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))\n"
    )
    arguments = {"source": source, "store": pods.store.uri, "quantize": False, **SMALL, **OPEN_GATE}
    done = subprocess.run(
        [sys.executable, "-c", script, package, root, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ | SMALL_NETWORK,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (root,) = root.iterdir()
    ran = {path.name for path in root.iterdir() if not path.name.startswith("for-loop")}
    assert ran == {*STEPS, "plan", "calibrate", "evaluate-judged", "finish"} - {"preprocess", "evaluate"}
    shards = [
        json.loads(path.read_text()) for path in root.glob("for-loop-*/preprocess/dataset/dataset.json")
    ]
    assert sorted((shard["shard"], shard["shards"]) for shard in shards) == [(0, 3), (1, 3), (2, 3)]
    outcome = only_outcome(pods.store)
    assert outcome is not None
    assert outcome.state == "deployed"
    service = pods.api.find("inferenceservices", NAMESPACE, "defects")
    assert service is not None
    assert service["spec"]["predictor"]["model"]["storageUri"].endswith(f"/{outcome.version}/")
    assert pods.urls.keys() == {"defects", "defects-candidate"}
    (executor,) = root.glob("evaluate-judged/executor_output.json")
    assert json.loads(executor.read_text())["parameterValues"]["Output"] == "passed"


def test_why_the_compiled_pipeline_failed_is_told_in_the_store(tmp_path, s3_server, pods):
    """On a cluster KFP hands on neither the message of a step nor its error; here it must not be asked."""
    package, run = tmp_path / "pipeline.yaml", "12345678"
    # KFP's local runner tries failed steps again, which Argo with KFP's settings does not.
    target = Target(name="cluster", gpus=0, s3_endpoint=s3_server.url, retries=0)
    compile_pipeline(package, None, target)
    fill_in_labels(package, run)
    script = (
        "import json, sys; from kfp import components, local\n"
        "from kfp.local import placeholder_utils\n"
        "placeholder_utils.make_random_id = lambda: sys.argv[4]\n"
        "local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])\n"
        "components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))\n"
    )
    arguments = json.dumps({"source": "s3://no-such-bucket/labelled", "store": pods.store.uri})
    done = subprocess.run(
        [sys.executable, "-c", script, package, tmp_path / "root", arguments, run],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode != 0
    outcome = read_outcome(pods.store, run)
    assert outcome is not None, done.stdout[-3000:] + done.stderr[-3000:]
    assert outcome.state == "failed"
    what, _, got = outcome.reason.partition(" Got ")
    assert what == "failed in ingest: s3://no-such-bucket/labelled cannot be listed."
    assert "(NoSuchBucket)" in got
