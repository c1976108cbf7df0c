"""Ports of this machine."""

import socket

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.ports import check_port, free_port


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
