"""A real registry on loopback."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LOGIN = "plant:pw"
_HASHED = "plant:$2y$05$aaaaaaaaaaaaaaaaaaaaaOscpG3LiIv8VbJ.Xo.NYfhRB9T5lwoHC\n"


@contextmanager
def run_registry(folder: Path, login: bool = False) -> Iterator[str]:
    """Its host:port. It asks for LOGIN where `login` says so, over HTTPS with folder/certificate.pem."""
    if not shutil.which("docker-registry"):
        pytest.skip("the program docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address},
    }
    if login:
        (folder / "logins").write_text(_HASHED)
        settings["auth"] = {"htpasswd": {"realm": "plant", "path": str(folder / "logins")}}
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=registry",
        ]
        made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(made, check=True, capture_output=True)
        settings["http"] |= {"tls": {"certificate": str(certificate), "key": str(key)}}
    (folder / "registry.json").write_text(json.dumps(settings))
    command = ["docker-registry", "serve", str(folder / "registry.json")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(tuple(address.split(":")), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the registry ended"
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)
