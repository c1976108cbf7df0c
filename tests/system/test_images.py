"""The Dockerfile, the images that it makes, and the references by which a pipeline names them.

The tests marked `images` need a Docker engine: `make test-images` starts one.
"""

import importlib.util
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import requests
from containers import BUILT, STRICT, docker, find_engine, make_images  # noqa: F401
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from paths import ROOT
from pictures import encode
from registry import run_registry
from servers import free_port

from defectline.client import Client
from defectline.pipeline.images import GPU_TARGETS, TARGETS, Images, reference

SBOM = "/usr/share/doc/defectline/sbom.cdx.json"


def component(target: str) -> str:
    """Whose packages it has; of `local`, which has all, the largest."""
    name = target.removesuffix("-gpu").removesuffix("-jax")
    return "train" if name == "local" else name


# What the Dockerfile and the requirements promise


def stages() -> dict[str, tuple[str, str]]:
    """Each stage of the Dockerfile: what it is built from, and its instructions."""
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[2::3], zip(parts[1::3], parts[3::3], strict=True), strict=True))


def pins(name: str) -> dict[str, str]:
    """Version by package in a compiled requirements file, each with at least one hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(
        r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)[^\n]* \\\n    --hash=sha256:", text, re.MULTILINE
    )
    assert len(found) == len(re.findall(r"^\w", text, re.MULTILINE)), (
        f"{name}.txt: a line without ==, or hash"
    )
    return dict(found)


def test_every_stage_starts_from_the_base_or_from_a_stage_above():
    text, known = (ROOT / "Dockerfile").read_text(), {"${BASE}"}
    assert len(re.findall(r"^FROM", text, re.MULTILINE)) == len(stages())
    for name, (parent, _) in stages().items():
        assert parent in known, name
        known.add(name)
    assert re.search(r"^ARG BASE=python:3\.11-", text, re.MULTILINE)
    assert "latest" not in text


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_component_without_root(target):
    _, body = stages()[target]
    instructions = body.strip().splitlines()
    assert re.findall(r"^USER (.*)", body, re.MULTILINE)[-1] == "1000"
    options = ["--engine", "onnxruntime"] if target == "serve-gpu" else []
    command = ["python3", "-m", f"defectline.components.{component(target)}", *options]
    command = ["defectline"] if target.startswith("local") else command
    assert instructions[-1] == f"ENTRYPOINT {json.dumps(command)}"
    assert ("NVIDIA_VISIBLE_DEVICES=all" in body) == (target in GPU_TARGETS)


def test_every_package_is_installed_by_hash_or_from_the_wheel():
    for name, (_, body) in stages().items():
        for command in re.findall(r"pip (?:install|wheel) .*", body):
            assert "--require-hashes" in command or "--no-index" in command, f"{name}: {command}"


@pytest.mark.parametrize("name", [*TARGETS, "client", "common", "kfp", "build"])
def test_an_image_holds_the_versions_that_were_tested(name):
    tested = pins("dev")
    other = {package: pin for package, pin in pins(name).items() if tested.get(package) != pin}
    if name in GPU_TARGETS:
        # Where there is no GPU they cannot be tested.
        untested = ("nvidia-", "jax-cuda", "onnxruntime-gpu")
        other = {package: pin for package, pin in other.items() if not package.startswith(untested)}
    assert other == {}


@pytest.mark.parametrize("target", [t for t in TARGETS if not t.startswith("local")])
def test_an_image_holds_only_what_its_component_needs(target):
    needed = pins(target)
    below = stages()[target][0].removesuffix("-packages")
    inherited = pins("common") | (pins("preprocess") if below in ("data", target) else {})
    assert inherited.items() <= needed.items()
    assert ("tensorflow" in needed) == (component(target) == "train")
    assert ("kserve" in needed) == (component(target) == "serve")
    assert not {"openvino", "onnxruntime-gpu"} <= needed.keys()


def test_the_client_needs_neither_arrays_nor_stores():
    needed = pins("client").keys()
    assert {"httpx", "pydantic", "typer"} <= needed
    assert needed.isdisjoint({"numpy", "opencv-python-headless", "pillow", "boto3", "google-cloud-storage"})


# What an engine makes of it


@pytest.fixture(params=BUILT)
def target(request) -> str:
    return request.param


@pytest.fixture
def run(registry, target) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in the image as a strict cluster would: any user, nothing writable but /tmp."""

    def run(*arguments: str, entrypoint: str = "") -> subprocess.CompletedProcess[str]:
        return docker(
            *("run", "--rm", "--network", "none", *STRICT),
            *(("--entrypoint", entrypoint) if entrypoint else ()),
            *(reference(target, registry), *arguments),
        )

    return run


@pytest.mark.images
def test_help_names_the_component(run, target):
    shown = run("--help")
    assert shown.returncode == 0, shown.stderr
    assert component(target) in shown.stdout


@pytest.mark.images
def test_the_default_user_is_not_root(registry, target):
    image = reference(target, registry)
    shown = docker("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", "id -u; id -g")
    assert shown.stdout.split() == ["1000", "0"]


@pytest.mark.images
def test_any_user_of_group_0_may_write_at_home_and_nobody_among_the_packages(registry, target):
    script = 'touch "$HOME/file" file /tmp/file && ! touch "$(dirname "$(command -v python3)")/file"'
    command = ("--network", "none", "--user", "12345:0", "--entrypoint", "sh", reference(target, registry))
    shown = docker("run", "--rm", *command, "-ec", script)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.images
def test_there_is_no_pip(run):
    shown = run("-m", "pip", "--version", entrypoint="python3")
    assert shown.returncode == 1
    assert "No module named pip" in shown.stderr


@pytest.mark.images
def test_every_module_of_the_component_finds_what_it_imports(run, target):
    # `component.py` is read where pipelines are compiled, never in an image.
    script = """
import importlib, pkgutil, sys
package = importlib.import_module(f"defectline.components.{sys.argv[1]}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.rpartition(".")[2] not in ("component", "__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
    shown = run("-c", script, component(target), entrypoint="python3")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("\n") > 0


@pytest.mark.images
@pytest.mark.parametrize("target", [t for t in BUILT if "openvino" in pins(t)])
def test_openvino_is_told_not_to_send_usage_data(run, target):
    script = "from openvino_telemetry.utils.opt_in_checker import OptInChecker as C; print(C().check(False))"
    assert run("-c", script, entrypoint="python3").stdout.strip() == "ConsentCheckResult.DECLINED"


@pytest.mark.images
@pytest.mark.parametrize("target", [t for t in BUILT if t != "serve"])
def test_kubeflow_can_run_a_step_in_it(run, target):
    from kfp import dsl

    def greet(name: str) -> str:
        from importlib.metadata import version

        print(f"{name} {version('defectline')}")
        return name

    # The command is the one that a cluster finds in the compiled pipeline.
    step = dsl.component(greet, base_image="any:1", install_kfp_package=False).component_spec.implementation
    output = {
        "parameters": {"Output": {"outputFile": "/tmp/step/Output"}},
        "outputFile": "/tmp/step/output.json",
    }
    executor_input = {"inputs": {"parameterValues": {"name": "hello"}}, "outputs": output}
    arguments = [
        json.dumps(executor_input) if argument == "{{$}}" else argument for argument in step.container.args
    ]
    entrypoint, *command = step.container.command
    shown = run(*command, *arguments, entrypoint=entrypoint)
    assert shown.returncode == 0, shown.stderr
    assert f"hello {version('defectline')}" in shown.stdout


@pytest.mark.images
def test_labels_say_what_it_is(registry, target):
    shown = docker("inspect", "--format", "{{json .Config.Labels}}", reference(target, registry))
    labels = json.loads(shown.stdout)
    assert labels["org.opencontainers.image.title"] == f"defectline {target}"
    assert labels["org.opencontainers.image.version"] == version("defectline")
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"]


@pytest.mark.images
def test_each_image_says_what_is_in_it(registry, target):
    shown = docker(
        "run", "--rm", "--network", "none", "--entrypoint", "cat", reference(target, registry), SBOM
    )
    assert shown.returncode == 0, shown.stderr
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(shown.stdout) is None
    document = json.loads(shown.stdout)
    assert document["metadata"]["component"]["name"] == f"defectline-{target}"
    found = {one["name"]: one for one in document["components"]}
    assert found["defectline"]["version"] == version("defectline")
    # Nothing is there that no lock names.
    packages = {one["name"] for one in document["components"] if one["purl"].startswith("pkg:pypi/")}
    assert packages - {*pins(target), *pins("kfp"), *pins("common"), *pins("preprocess")} == {"defectline"}
    assert len(packages) > 20
    assert "libc6" in found
    assert ("tensorflow" in found) == (component(target) == "train")


@pytest.mark.images
def test_every_package_brings_its_licence(run):
    script = """
from importlib.metadata import distributions
for found in distributions():
    files = [f for f in found.files or () if any(w in f.name.lower() for w in ("licen", "copying", "notice"))]
    named = found.metadata.get("License-Expression") or found.metadata.get("License")
    named = named or [c for c in found.metadata.get_all("Classifier", []) if c.startswith("License ::")]
    if not files and not named:
        print(found.name)
"""
    shown = run("-c", script, entrypoint="python3")
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr


@pytest.mark.images
def test_one_image_has_every_command(registry):
    image, alone = reference("local", registry), ("run", "--rm", "--network", "none", *STRICT)
    shown = docker(*alone, image, "--version", timeout=300)
    assert shown.returncode == 0, shown.stderr
    assert "not installed" not in shown.stdout
    tuned = ("tune", "--source", "s3://a/b", "--store", "s3://a/c", "--job", "/tmp/job.yaml")
    shown = docker(*alone, image, *tuned, timeout=300)
    assert shown.returncode == 0, shown.stderr
    assert "/tmp/job.yaml: 20 trials" in shown.stdout


@pytest.mark.images
def test_the_server_is_small(registry):
    size = int(docker("inspect", "--format", "{{.Size}}", reference("serve", registry)).stdout)
    assert size <= 850e6


@pytest.mark.images
def test_the_docs_way_to_serve_a_models_folder(registry, tmp_path):
    from networks import draw, judge_model

    model = judge_model(tmp_path / "judged", pairs=24).folder
    (block,) = re.findall(r"^docker run (.*?)^curl", (ROOT / "docs/install.md").read_text(), re.M | re.S)
    words = shlex.split(block.replace("\\\n", " "))
    name, port = f"defectline-test-{uuid4().hex[:8]}", free_port()
    assert words[:3] == ["--rm", "--publish", "8080:8080"]
    # The engine of the tests has no bridge, so nothing is published: the server takes the port itself.
    words[1:3] = ["--network", "host", "--detach", "--name", name]
    assert words[-3:] == ["defectline-serve", "--model_name", "defects"]
    words[-3:] = [reference("serve", registry), "--model_name", "defects", "--http_port", str(port)]
    (volume,) = [word for word in words if word.endswith(":/mnt/models:ro")]
    words[words.index(volume)] = f"{model}:/mnt/models:ro"
    started = docker("run", *words)
    try:
        assert started.returncode == 0, started.stderr
        image = encode(draw("NG", np.random.default_rng(0))[0])
        with Client(f"http://127.0.0.1:{port}", "defects", retries=100, deadline_s=120) as client:
            assert client.inspect(image).verdict == "NG"
    finally:
        docker("rm", "--force", name)


@pytest.mark.images
def test_the_docs_way_to_review_in_a_container(registry, tmp_path):
    (block,) = re.findall(r"^docker run (.*?)^```", (ROOT / "docs/review.md").read_text(), re.M | re.S)
    words = shlex.split(block.replace("\\\n", " "))
    name, port, token = f"defectline-test-{uuid4().hex[:8]}", free_port(), "reviewers-0123456789"
    (tmp_path / "tokens").write_text(token)
    (tmp_path / "store").mkdir()
    assert words[1:5] == ["--user", "$(id -u):0", "--publish", "8090:8090"]
    words[1:5] = ["--user", "4321:0", "--network", "host", "--detach", "--name", name]
    words = [word.replace("$PWD", str(tmp_path)) for word in words]
    words[words.index("defectline-serve")] = reference("serve", registry)
    started = docker("run", *words, "--port", str(port))
    try:
        assert started.returncode == 0, started.stderr
        deadline = time.monotonic() + 60
        while (found := _status(f"http://127.0.0.1:{port}/api/frames", token)) is None:
            assert time.monotonic() < deadline, docker("logs", name).stderr
            time.sleep(0.2)
        assert found == 200
        assert _status(f"http://127.0.0.1:{port}/api/frames", "") == 401
    finally:
        docker("rm", "--force", name)


def _status(url: str, token: str) -> int | None:
    try:
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code
    except requests.ConnectionError:
        return None


@pytest.fixture
def registry_server(tmp_path) -> Iterator[str]:
    """A real registry, as host:port."""
    with run_registry(tmp_path) as address:
        yield address


@pytest.mark.images
@pytest.mark.usefixtures("clean")
def test_what_is_pushed_is_locked_by_digest(engine, registry_server, tmp_path):
    spec = importlib.util.spec_from_file_location("build_images", ROOT / "tools" / "build_images.py")
    build_images = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build_images)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    image = reference("serve", registry_server)
    assert docker("build", "--tag", image, str(tmp_path)).returncode == 0

    pushed = build_images.push(image)
    build_images.write_lock(dict.fromkeys(BUILT, pushed), Path("images.lock.json"))
    docker("image", "rm", image, pushed)

    assert Images.load().serve == pushed
    assert re.fullmatch(rf"{re.escape(registry_server)}/defectline-serve@sha256:[0-9a-f]{{64}}", pushed)
    assert docker("pull", pushed).returncode == 0
    docker("image", "rm", pushed)
