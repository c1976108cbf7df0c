import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import Between, endpoint, set_env
from servers import GCSServer, S3Server

from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.gcs import GCSStorage
from defectline.components.common.storage.s3 import S3Storage


@pytest.fixture(params=["folder", "s3", "gcs"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        return str(tmp_path / "store")
    server = request.getfixturevalue(f"{request.param}_server")
    set_env(monkeypatch, server)
    return f"{'s3' if request.param == 's3' else 'gs'}://{server.new_bucket()}/some/prefix"


@pytest.fixture
def store(uri: str) -> Storage:
    return open_storage(uri)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty S3 bucket, with the environment set for it."""
    set_env(monkeypatch, s3_server)
    return f"s3://{s3_server.new_bucket()}"


@pytest.fixture
def gcs(gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty GCS bucket, with the environment set for it."""
    set_env(monkeypatch, gcs_server)
    return f"gs://{gcs_server.new_bucket()}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a host after a fraction of a second."""
    for storage in (S3Storage, GCSStorage):
        monkeypatch.setattr(storage, "READ_SECONDS", 0.2)
    monkeypatch.setattr(S3Storage, "ATTEMPTS", 2)
    monkeypatch.setattr(S3Storage, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(GCSStorage, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(GCSStorage, "LATER_SECONDS", 0.5)


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["s3", "gcs"])
def between(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Between, Storage]]:
    """A storage that reaches its real server through a relay."""
    uri = request.getfixturevalue(request.param)
    relay = Between(request.getfixturevalue(f"{request.param}_server").url)
    endpoint(monkeypatch, request.param, relay.url)
    thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
    thread.start()
    yield relay, open_storage(uri)
    relay.shutdown()
    thread.join()
    relay.server_close()
