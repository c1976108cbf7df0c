"""Ports of this machine."""

import errno
import socket
import ssl
from pathlib import Path

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
        except socket.gaierror as error:
            raise _no_address(host) from error
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
                raise _no_address(host) from error
            raise SettingsError(
                f"Port {port} cannot be used.",
                got=getattr(error, "strerror", None) or str(error),
                expected="a port on which no other program listens",
                fix="Choose another port, or end the program that has it.",
            ) from error


def _no_address(host: str) -> SettingsError:
    return SettingsError(
        "This machine has no such address.",
        got=host,
        expected="an address of its own",
        fix="Name one of them, 127.0.0.1 for this machine alone, or 0.0.0.0 for all.",
    )


def check_certificate(certificate: Path | str | None, key: Path | str | None) -> None:
    """Raise SettingsError for files that HTTPS cannot be spoken with; without both it is not asked for."""
    if certificate is None and key is None:
        return
    try:
        if certificate is None:
            raise OSError("a key without its certificate")
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            "HTTPS cannot be spoken with these files.",
            got=f"{certificate or 'none'}, {key or 'no key'}: {error.strerror or error}",
            expected="a certificate and its key, in PEM",
            fix="Correct the paths, or let the key be the certificate's own.",
        ) from error
