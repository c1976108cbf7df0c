"""Ports of this machine."""

import socket

from defectline.components.common.errors import SettingsError


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_port(port: int, host: str = "0.0.0.0") -> None:
    """Raise SettingsError where the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"Port {port} cannot be used.",
                got=getattr(error, "strerror", None) or str(error),
                expected="a port on which no other program listens",
                fix="Choose another port, or end the program that has it.",
            ) from error
