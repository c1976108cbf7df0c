"""The images of every component, built by a real Docker engine, and containers of them."""

import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

from defectline.pipeline.images import GPU_TARGETS, TARGETS

DOCKER = os.environ.get("DOCKER", "docker")
BUILT = tuple(target for target in TARGETS if target not in GPU_TARGETS)
USER = "12345:0"
STRICT = (
    *("--read-only", "--tmpfs", "/tmp", "--user", USER),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
"""As a strict cluster runs a container: any user of group 0, nothing writable but /tmp, no capability."""


def docker(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DOCKER, *arguments], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(name="engine", scope="session")
def find_engine() -> list[str]:
    """The arguments that `docker build` needs with the engine that is there."""
    info = docker("info") if shutil.which(DOCKER) else None
    if info is None or info.returncode:
        # Who names an engine wants these tests to run.
        assert "DOCKER_HOST" not in os.environ, f"no engine answers at {os.environ['DOCKER_HOST']}: {info}"
        pytest.skip("no Docker engine answers: run `make test-images`")
    arguments = []
    if "bridge" not in docker("network", "ls", "--format", "{{.Name}}").stdout.split():
        arguments += ["--network", "host"]
    if certificates := os.environ.get("SSL_CERT_FILE"):
        arguments += ["--secret", f"id=ca,src={certificates}"]
    return arguments


@pytest.fixture(name="registry", scope="session")
def make_images(engine, request, tmp_path_factory) -> str:
    """The prefix of the images, all built by the command that `make images` runs."""
    prefix, log = "defectline.test", tmp_path_factory.mktemp("build") / "log"
    command = [sys.executable, "tools/build_images.py", "--registry", prefix, "--", *engine]
    with log.open("w") as errors:
        built = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=3600
        )
    assert built.returncode == 0, log.read_text()[-4000:]
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print("\n" + built.stdout)
    return prefix
