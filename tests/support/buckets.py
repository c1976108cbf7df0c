"""Stores on real servers, and a relay in front of them that makes faults."""

from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from servers import GCSServer, S3Server

from defectline.components.common.storage import Storage


def set_env(monkeypatch: pytest.MonkeyPatch, server: S3Server | GCSServer) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


def keys(store: Storage, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


def endpoint(monkeypatch: pytest.MonkeyPatch, scheme: str, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL" if scheme == "s3" else "STORAGE_EMULATOR_HOST", url)


class Between(ThreadingHTTPServer):
    """Passes requests on to a real server, except where `faults` says otherwise.

    A fault is (method, what): a status to answer with, "page" for a page of HTML, "drop" to lose the real
    answer, "cut" to end it halfway, "flip" to turn its last bit. Each happens once, to the next request
    with that method.
    """

    daemon_threads = True

    def __init__(self, server: str):
        super().__init__(("127.0.0.1", 0), Relay)
        self.real = urlsplit(server)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[tuple[str, int | str]] = []
        self.paths: list[str] = []
        self.signed: list[bool] = []
        self.headers: list[dict[str, str]] = []
        """Of each request, with their names in lower case."""

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is nothing new."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Between

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.paths.append(self.path)
        self.server.signed.append("Authorization" in self.headers)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault: int | str = ""
        if self.server.faults and self.server.faults[0][0] == self.command:
            fault = self.server.faults.pop(0)[1]
        if isinstance(fault, int) or fault == "page":
            self.reply(fault if isinstance(fault, int) else 200, {}, b"<html><br></html>")
            return
        real = HTTPConnection(self.server.real.hostname or "", self.server.real.port, timeout=10)
        real.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                real.putheader(name, value)
        real.endheaders(body)
        answer = real.getresponse()
        content = answer.read()
        real.close()
        self.close_connection = True
        headers = dict(answer.getheaders())
        if fault == "flip":
            content = content[:-1] + bytes([content[-1] ^ 1])
            # Of the checksums only the ETag stays, as with older servers.
            headers = {name: value for name, value in headers.items() if "checksum" not in name.lower()}
        if fault != "drop":
            self.reply(answer.status, headers, content, cut=fault == "cut")

    def reply(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay


def write_method(store: Storage) -> str:
    return "PUT" if store.uri.startswith("s3") else "POST"
