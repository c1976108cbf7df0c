"""Bodies over HTTP: read within limits of size, time and memory."""

import asyncio
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request

from defectline.components.serve.protocol.errors import ApiError

BODY_S = 30.0
"""A body that takes longer to arrive is refused."""
DISCARD_S = 5.0
"""How long the rest of a refused body is read and dropped: its sender reads the answer only then."""


class Limits(NamedTuple):
    body_bytes: int
    body_s: float = BODY_S

    def room_bytes(self, own: int) -> int:
        """What all unanswered bodies together may take, for a body that takes `own` of it.

        A third is reserved for small ones: large ones that arrive slowly must not block them.
        """
        return (3 if own <= self.body_bytes // 64 else 2) * self.body_bytes


class BodyBudget:
    """Bytes of all bodies that are in memory."""

    def __init__(self) -> None:
        self.used = 0


class Body:
    """A request's body, read within its limits of size and time."""

    def __init__(self, request: Request, limits: Limits, budget: BodyBudget):
        self._request, self._limits = request, limits
        self._budget, self._own = budget, 0
        self._chunks: list[bytes] = []
        self._ended = self._asked = False

    async def read(self) -> bytes:
        """The whole body, which counts in the budget until `release`. Raises ApiError where it is too large,
        too slow, or where the bodies of other requests leave no room for it."""
        declared = self._request.headers.get("content-length", "")
        # The HTTP server checks the length against the bytes.
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        if self._request.headers.get("content-encoding", "identity") != "identity":
            raise ApiError("unsupported_media_type", "The body has a Content-Encoding. Send it without.")
        try:
            async with asyncio.timeout(self._limits.body_s):
                while not self._ended:
                    self._chunks.append(await self._next())
                    self._own += len(self._chunks[-1])
                    self._budget.used += len(self._chunks[-1])
                    if self._own > self._limits.body_bytes:
                        raise self._too_large()
                    if self._budget.used > self._limits.room_bytes(self._own):
                        raise ApiError("overloaded", "Too many large bodies arrive at once. Try again later.")
        except TimeoutError:
            raise ApiError(
                "body_timeout", f"The body did not arrive within {self._limits.body_s:g} s."
            ) from None
        whole = b"".join(self._chunks)
        self._chunks.clear()
        return whole

    def release(self) -> None:
        """Give its memory back."""
        self._chunks.clear()
        self._budget.used -= self._own
        self._own = 0

    async def discard(self) -> None:
        """Read what is left and drop it, for at most DISCARD_S; not from a sender that waits to be asked."""
        self.release()
        waits = self._request.headers.get("expect", "").lower() == "100-continue"
        if waits and not self._asked:
            return
        try:
            async with asyncio.timeout(DISCARD_S):
                while not self._ended:
                    await self._next()
        except TimeoutError:
            return  # The answer is sent all the same.

    async def _next(self) -> bytes:
        self._asked = True
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise ClientDisconnect
        self._ended = not message.get("more_body", False)
        return message.get("body", b"")

    def _too_large(self) -> ApiError:
        limit = self._limits.body_bytes / 1e6
        return ApiError("too_large", f"The body is too large. Send at most {limit:g} MB.")
