"""Real servers for tests: processes on free loopback ports, ended with the session."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import httpx
import pytest
import requests
from paths import ROOT

__all__ = [
    "GCSServer",
    "LabelStudioServer",
    "S3Server",
    "free_port",
    "gcs_server",
    "label_studio_server",
    "mlflow_server",
    "running",
    "s3_server",
]

START_SECONDS = 600


@dataclass(frozen=True)
class S3Server:
    """moto with authorisation on: `access_key` may do everything in S3, `stranger_key` nothing.

    `reviewer_key` may what docs/review.md says that pods need, in stores whose prefix is `factory`.
    """

    url: str
    access_key: str
    secret_key: str
    stranger_key: str
    stranger_secret: str
    reviewer_key: str
    reviewer_secret: str

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to use the server, whatever else its environment and home hold."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        """The name of a bucket made now."""
        name = f"bucket-{uuid4().hex[:12]}"
        _client(self.url, "s3", self.access_key, self.secret_key).create_bucket(Bucket=name)
        return name


@dataclass(frozen=True)
class GCSServer:
    """gcp-storage-emulator, which asks for no credentials and ignores preconditions."""

    url: str

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to use the server."""
        return {"STORAGE_EMULATOR_HOST": self.url, "NO_GCE_CHECK": "true"}

    def new_bucket(self) -> str:
        """The name of a bucket made now."""
        name = f"bucket-{uuid4().hex[:12]}"
        requests.post(f"{self.url}/storage/v1/b", json={"name": name}, timeout=10).raise_for_status()
        return name


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def running(
    command: list[str], port: int, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; the block starts when the port takes connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | (env or {})
        )
    try:
        _wait_for(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as sock:
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that checks signatures and rights."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, log):
        iam = _client(url, "iam", "setup", "setup")
        keys = {}
        for name in ("owner", "stranger", "reviewer"):
            iam.create_user(UserName=name)
            keys[name] = iam.create_access_key(UserName=name)["AccessKey"]
        _allow(iam, "owner", {"s3:*": "*"})
        write = "arn:aws:s3:::*/factory/review/*"
        _allow(iam, "reviewer", {"s3:ListBucket": "arn:aws:s3:::*", "s3:PutObject": write})
        requests.post(f"{url}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
        yield S3Server(
            url,
            keys["owner"]["AccessKeyId"],
            keys["owner"]["SecretAccessKey"],
            keys["stranger"]["AccessKeyId"],
            keys["stranger"]["SecretAccessKey"],
            keys["reviewer"]["AccessKeyId"],
            keys["reviewer"]["SecretAccessKey"],
        )


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCSServer]:
    """A server that speaks the JSON API of Google Cloud Storage."""
    port = free_port()
    log = tmp_path_factory.mktemp("gcs") / "server.log"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "-H", "127.0.0.1"]
    with running([*command, "--port", str(port), "--in-memory", "--quiet"], port, log):
        yield GCSServer(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow tracking server, whose packages need an environment of their own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    home = _environment(folder, "mlflow-server")
    command = [
        str(home / "bin/mlflow"),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder)]
    with running(command, port, folder / "server.log", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}):
        yield f"http://127.0.0.1:{port}"


class LabelStudioServer(NamedTuple):
    """A server of Label Studio, with one user."""

    url: str
    user: str
    token: str
    """A legacy token."""
    access_token: str
    """A personal one."""
    client: httpx.Client
    """Of the user."""

    def tasks(self, title: str) -> list[dict[str, Any]]:
        """Those of a project."""
        projects = self.client.get("/api/projects/?page_size=100").json()["results"]
        (id,) = (project["id"] for project in projects if project["title"] == title)
        return self.client.get(f"/api/tasks?project={id}&page_size=100&fields=all").json()["tasks"]


@pytest.fixture(scope="session")
def label_studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """Label Studio's own server, whose packages need an environment of their own."""
    folder, port = tmp_path_factory.mktemp("label-studio"), free_port()
    home = _environment(folder, "label-studio-server")
    user, token = "ada@example.com", "0123456789abcdef0123456789abcdef01234567"
    command = [str(home / "bin/label-studio"), "start", "--no-browser", "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--data-dir", str(folder), "--username", user]
    command += ["--password", "secret-of-ada", "--user-token", token]
    quiet = {
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    url = f"http://127.0.0.1:{port}"
    with (
        running(command, port, folder / "server.log", quiet),
        httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=60) as client,
    ):
        access_token = client.post("/api/token/").json()["token"]
        yield LabelStudioServer(url, user, token, access_token, client)


def _environment(folder: Path, requirements: str) -> Path:
    """A new environment in the folder, with the packages of a file of requirements."""
    uv, home = Path(sys.executable).with_name("uv"), folder / "environment"
    if not uv.exists():
        pytest.skip("no uv beside Python, to install a server with")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", home / "bin/python", "--require-hashes"]
    subprocess.run([*install, "--requirement", ROOT / f"requirements/{requirements}.txt"], check=True)
    return home


def _allow(iam: Any, user: str, resources: dict[str, str]) -> None:
    """Let a user do each action to the resource that it has here."""
    statements = [{"Effect": "Allow", "Action": do, "Resource": to} for do, to in resources.items()]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=policy)


def _client(url: str, service: str, key: str, secret: str):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
