"""Connections as real clients open them, and as those do that never send a request."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest
from endpoints import PREDICT, plate

from defectline.components.serve.protocol import connection
from defectline.components.serve.protocol.connection import Connection, without_upgrade

PNG = plate()
OFFER = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)


def _request(more: bytes = b"", body: bytes = PNG) -> bytes:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: plates\r\nContent-Type: image/png\r\n".encode()
    return head + more + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def _answer(connected: socket.socket) -> tuple[int, bytes]:
    """Status and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connected.recv(65536)
        assert got, data
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    while len(body) < length:
        body += connected.recv(65536)
    return int(head.split()[1]), body


@pytest.mark.parametrize("piece", [1, 7, 100, 10**6])
def test_an_offer_of_http_2_loses_no_body_however_it_arrives(served, piece):
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connected:
        for more in (OFFER, b"", OFFER):
            request = _request(more)
            head = request.index(b"\r\n\r\n") + 4
            for start in range(0, head, piece):
                connected.sendall(request[start : min(start + piece, head)])
            connected.sendall(request[head:])
            status, body = _answer(connected)
            assert status == 200, body


def test_requests_that_come_at_once_are_answered_in_their_order(served):
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connected:
        connected.sendall(_request() + _request(OFFER, b"no picture"))
        assert _answer(connected)[0] == 200
        assert _answer(connected)[0] == 400


def test_only_the_offer_goes():
    head = b"GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: websocket\r\nX-Upgrade: yes"
    assert without_upgrade(head) == b"GET / HTTP/1.1\r\nHost: a\r\nX-Upgrade: yes"
    assert without_upgrade(b"GET / HTTP/1.1\r\nHost: a") == b"GET / HTTP/1.1\r\nHost: a"


def test_a_body_that_waits_to_be_asked_is_refused_before_it_comes(served):
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connected:
        head = (
            f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
        )
        connected.sendall(head.encode())
        assert _answer(connected)[0] == 413
    with socket.create_connection((where.hostname, where.port), timeout=60) as connected:
        request = _request(b"Expect: 100-continue\r\n")
        head = request.index(b"\r\n\r\n") + 4
        connected.sendall(request[:head])
        assert connected.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connected.sendall(request[head:])
        assert _answer(connected)[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX: 1\r\n"])
def test_a_head_that_never_ends_is_given_up(monkeypatch, sent):
    async def app(scope, receive, send):
        raise AssertionError("there is no request")

    async def serve() -> bytes:
        from uvicorn import Config
        from uvicorn.server import ServerState

        config = Config(app, http=Connection, lifespan="off", log_config=None)
        config.load()
        loop, state = asyncio.get_running_loop(), ServerState()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            # However slowly it goes on.
            return await asyncio.wait_for(reader.read(), 60)

    monkeypatch.setattr(connection, "HEAD_S", 0.05)
    assert asyncio.run(serve()).startswith(b"HTTP/1.1 408 ")
