"""HTTP connections: what uvicorn's protocol does not do with requests as real clients send them."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""A connection whose request line and headers take longer to arrive is closed."""
HEAD_BYTES = 65536
END = b"\r\n\r\n"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """Reads the head of a request as a whole, within HEAD_S.

    An `Upgrade` is taken out of it: a server may ignore that offer, but the parser would take the body for
    data of the other protocol. Java's HttpClient and `curl --http2` offer HTTP/2 with every first request.
    """

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self._head: bytes | None = b""
        """What has come of the next request's head; None while one is being read."""
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._unset_keepalive_if_required()
            self._head += data
            if END not in self._head and len(self._head) < HEAD_BYTES:
                if self._late is None:
                    self._start_clock()
                return
            self._stop_clock()
            head, end, body = self._head.partition(END)
            data, self._head = without_upgrade(head) + end + body, None
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head = None
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._head = b""
        super().on_message_complete()

    def _start_clock(self) -> None:
        self._late = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_clock(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self.transport.write(TIMEOUT)
        self.transport.close()


def without_upgrade(head: bytes) -> bytes:
    """The lines of a request's head but for `Upgrade`."""
    if b"upgrade:" not in head.lower():
        return head
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"upgrade:"))
