"""Ports of this machine."""

import socket

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.ports import check_certificate, check_port, free_port


def test_a_free_port_can_be_listened_on():
    port = free_port()
    check_port(port)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_another_program_has_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SettingsError, match=f"Port {port} cannot be used") as caught:
            check_port(port, "127.0.0.1")
        assert caught.value.got == "Address already in use"


def test_a_number_that_is_not_a_port_is_named():
    with pytest.raises(SettingsError, match="Port 70000 cannot be used"):
        check_port(70_000)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_named(host):
    with pytest.raises(SettingsError, match="no such address") as caught:
        check_port(free_port(), host)
    assert caught.value.got == host


def test_files_without_a_certificate_are_named(tmp_path):
    check_certificate(None, None)
    (tmp_path / "a.pem").write_text("nothing of the kind")
    for certificate, key in (
        (tmp_path / "missing.pem", None),
        (tmp_path / "a.pem", tmp_path / "a.pem"),
        (None, tmp_path / "a.pem"),
    ):
        with pytest.raises(SettingsError, match="HTTPS cannot be spoken"):
            check_certificate(certificate, key)
