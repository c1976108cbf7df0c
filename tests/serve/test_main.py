"""Starts that must fail, each as a process of its own, and say why."""

import shutil
import socket
import subprocess
import sys
import time

import pytest
from endpoints import START_S, command, fails, process_of
from servers import free_port


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_files_that_are_not_what_was_sealed_are_never_served(model, tmp_path, damage):
    folder = tmp_path / "model"
    if damage == "changed":
        shutil.copytree(model, folder)
        data = (folder / "openvino/model.xml").read_bytes()
        (folder / "openvino/model.xml").write_bytes(data.replace(b"by-hand", b"by-foot"))
    port, log = free_port(), tmp_path / "serve.log"
    listened, deadline = False, time.monotonic() + START_S
    with process_of(command(folder, port), log) as process:
        while process.poll() is None and not listened and time.monotonic() < deadline:
            with socket.socket() as probe:
                listened |= probe.connect_ex(("127.0.0.1", port)) == 0
            time.sleep(0.02)
        assert not listened
        assert process.poll() == 2
    said = log.read_text()
    assert ("is not what was sealed" if damage == "changed" else "is not sealed") in said
    assert "Traceback" not in said


def test_a_port_that_is_taken(model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} cannot be used" in fails(command(model, port))


def test_a_bundle_that_cannot_be_served_is_told_to_kubernetes(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model/openvino/model.bin").write_bytes(b"")
    (tmp_path / "reason").write_text("")
    code = (
        "import sys, pathlib, defectline.components.serve.server as main;"
        "main.TERMINATION_LOG = pathlib.Path(sys.argv.pop(1)); main.main()"
    )
    port = str(free_port())
    command = [sys.executable, "-c", code, str(tmp_path / "reason"), "--model_dir", str(tmp_path / "model")]
    done = subprocess.run([*command, "--http_port", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "is not what was sealed" in (tmp_path / "reason").read_text()


def test_http_and_grpc_need_two_ports(model):
    port = str(free_port())
    more = ["--enable_grpc", "true", "--grpc_port", port]
    done = subprocess.run(command(model, int(port), *more), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cannot share a port" in done.stderr


def test_a_setting_that_cannot_be(model):
    said = fails(command(model, free_port(), "--queue", "-1"))
    assert "setting queue is wrong" in said
