"""A proxy on loopback that damages what passes between a client and an S3 server, as it is told.

>>> proxy.rules = [Rule(answer(503, "SlowDown"), first=5, times=12), Rule(cut(100), share=0.2, per_key=2)]

Requests are passed on with the client's own Host header, so their signatures stay valid.
"""

import hashlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    sent: int | None = None
    """Bytes of the body that are sent before the connection breaks; None: all."""


Fault = Callable[[Callable[[], Answer]], Answer | None]
"""Gets a function that asks the real server; returns the answer for the client, or None: a reset."""


def answer(status: int, code: str, message: str = "Made by a test.") -> Fault:
    """An error in S3's own words, in place of the server."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return lambda ask: Answer(status, {"Content-Type": "application/xml"}, body.encode())


def reset(ask: Callable[[], Answer]) -> None:
    """The server never sees the request."""


def lose(ask: Callable[[], Answer]) -> None:
    """The server does what it was asked to, and its answer is lost."""
    ask()


def cut(size: int) -> Fault:
    """Announce the whole body, send `size` bytes of it, and hang up."""
    return lambda ask: ask()._replace(sent=size)


def other_etag(ask: Callable[[], Answer]) -> Answer:
    found = ask()
    return found._replace(headers=found.headers | {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"'})


def flip(position: int) -> Fault:
    """Change one bit of the body."""

    def fault(ask: Callable[[], Answer]) -> Answer:
        found = ask()
        body = bytearray(found.body)
        body[position % len(body)] ^= 1
        return found._replace(body=bytes(body))

    return fault


def call(function: Callable[[], object]) -> Fault:
    """Do something else first, such as replacing an object."""

    def fault(ask: Callable[[], Answer]) -> Answer:
        function()
        return ask()

    return fault


@dataclass
class Rule:
    """What happens to which requests; of several rules the first that applies counts."""

    fault: Fault
    method: str = "GET"
    key: str = "."
    """Searched for in the object's key as a regular expression; a listing has the key ""."""
    first: int = 1
    """The first of the matching requests that is hit, counted from 1."""
    times: int | None = None
    """How many from there on; None: all."""
    share: float = 1.0
    """The part of these that is hit, the same ones for the same seed, key and count."""
    per_key: int | None = None
    """At most so many first requests for each key, so that the next ones go well."""
    hits: int = 0
    _matched: Counter[str] = field(default_factory=Counter)

    def applies(self, method: str, key: str, seed: int) -> bool:
        if not (re.fullmatch(self.method, method) and re.search(self.key, key)):
            return False
        self._matched[key] += 1
        number, of_key = self._matched.total(), self._matched[key]
        hit = (
            number >= self.first
            and (self.times is None or number < self.first + self.times)
            and (self.per_key is None or of_key <= self.per_key)
            and random.Random(f"{seed} {key} {of_key}").random() < self.share
        )
        self.hits += hit
        return hit


class Faults(ThreadingHTTPServer):
    """The proxy; what it saw is in `requests` (method and key, in order)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: str, seed: int = 0):
        super().__init__(("127.0.0.1", 0), Relay)
        self.real = urlsplit(server)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seed = seed
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    @property
    def gets(self) -> Counter[str]:
        """How often each object was asked for."""
        return Counter(key for method, key in self.requests if method == "GET" and key)

    def seen(self, method: str, key: str) -> Fault | None:
        """Note a request; returns what shall happen to it."""
        with self._lock:
            self.requests.append((method, key))
            return next((rule.fault for rule in self.rules if rule.applies(method, key, self.seed)), None)

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up, or was killed, is nothing new."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Faults

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.seen(
            self.command, unquote(urlsplit(self.path).path.lstrip("/").partition("/")[2])
        )

        def ask() -> Answer:
            return self.ask(body)

        found = fault(ask) if fault else ask()
        if found is None:
            self.break_off()
        else:
            self.reply(found)

    def ask(self, body: bytes) -> Answer:
        real = HTTPConnection(self.server.real.hostname or "", self.server.real.port, timeout=60)
        real.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                real.putheader(name, value)
        real.endheaders(body)
        found = real.getresponse()
        content = found.read()
        real.close()
        return Answer(found.status, dict(found.getheaders()), content)

    def reply(self, found: Answer) -> None:
        self.send_response_only(found.status)
        for name, value in found.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = found.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(found.body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body[: found.sent])
        if found.sent is not None:
            self.close_connection = True

    def break_off(self) -> None:
        """End the connection with RST: the other side reads "connection reset by peer"."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The request is read through a file over the socket, and only the last close sends the RST.
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay


@contextmanager
def faults(server: str, seed: int = 0) -> Iterator[Faults]:
    """A running proxy in front of the server with this URL."""
    proxy = Faults(server, seed)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
