"""Asks an endpoint about pictures, from a camera PC or another program.

>>> with Client("http://localhost:8080", "defects") as client:
...     found = client.inspect(Path("plate.png"))
...     print(found.verdict, found.score, [region.bbox for region in found.regions])

Needs httpx and pydantic, and neither KServe nor OpenVINO. What is worth another try is tried again: a
connection that fails, an answer that does not come in time, and HTTP 429, 502, 503 and 504, as Retry-After
says or with pauses that double and vary by chance, so that many cameras do not come back at once.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.files import read_file
from defectline.components.common.prediction import Prediction

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
BUSY = (429, 502, 503, 504)
REFUSED = (400, 413, 415, 422)
"""What is said of a picture, and not of the endpoint."""


class Refused(ServingError):
    """The endpoint does not accept this picture; it may accept others."""


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Tries:
    """When there is another try, for one picture."""

    def __init__(self, retries: int, timeout_s: float, deadline_s: float):
        self._left, self._timeout_s = retries, timeout_s
        self._end = time.monotonic() + deadline_s
        self._pause_s = FIRST_PAUSE_S

    def timeout_s(self) -> float:
        """How long the next try may take."""
        return max(min(self._timeout_s, self._end - time.monotonic()), 0.001)

    def pause_s(self, failure: ServingError, asked_s: float | None = None) -> float:
        """How long to wait before it, at least `asked_s`; raises `failure` where there is none."""
        pause = self._pause_s * random.uniform(0.5, 1)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if asked_s is not None:
            pause += asked_s
        if not self._left or time.monotonic() + pause >= self._end:
            raise failure
        self._left -= 1
        return pause


Picture = bytes | bytearray | memoryview | Path
"""A picture file, or its content."""


class _Endpoint:
    """What both clients have in common."""

    def __init__(
        self,
        url: str,
        name: str = "defects",
        timeout_s: float = 10.0,
        retries: int = 10,
        deadline_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ):
        """`timeout_s` is for one try and `deadline_s` for all of them, pauses included.

        `headers` are sent with each picture: Authorization, or Host where a gateway goes by it. Raises
        SettingsError for what is no URL.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SettingsError(
                "The endpoint's URL cannot be used.",
                got=url,
                expected="http://host:port or https://host, perhaps with a path",
                fix="Correct the URL.",
            )
        self.url, self.name = url.rstrip("/"), name
        self.address = f"{self.url}/v1/models/{quote(name, safe='')}:predict"
        self._told = (retries, timeout_s, deadline_s)
        self._headers = {"Content-Type": "image/*", **(headers or {})}
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def _unreachable(self, error: Exception) -> ServingError:
        return ServingError(
            f"{self.url} does not answer.",
            got=f"{type(error).__name__}: {error}".rstrip(": "),
            expected="a running endpoint",
            fix="Start one with `make serve`, or correct the URL.",
        )

    def _busy(self, answer: _Answer) -> ServingError | None:
        if answer.status not in BUSY:
            return None
        return ServingError(
            f"{self.url} is too busy, or not ready.",
            got=f"HTTP {answer.status}: {_message(answer.body)}",
            expected="HTTP 200",
            fix="Try again later, ask less at once, or let more replicas serve.",
        )

    def _prediction(self, answer: _Answer, what: str) -> Prediction:
        got = f"HTTP {answer.status}: {_message(answer.body)}"
        if answer.status == 400 and _code(answer.body) == "invalid_request":
            raise ServingError(
                "The endpoint does not accept what is asked with the picture.",
                got=got,
                expected="a threshold from 0.001 to 1, a request_id of letters, digits and . : _ -",
                fix="Correct it; the picture was not looked at.",
            )
        if answer.status in REFUSED:
            raise Refused(
                f"The endpoint does not accept {what}.",
                got=got,
                expected="a picture: PNG, JPEG, BMP, TIFF or WebP",
                fix="Check the picture.",
            )
        if answer.status == 404:
            raise ServingError(
                f"There is no model {self.name} at {self.url}.",
                got=got,
                expected="the name that the endpoint serves",
                fix="Correct the name, or the URL.",
            )
        if answer.status != 200:
            gateway = answer.status in (401, 403) or 300 <= answer.status < 400
            raise ServingError(
                f"{self.url} lets nobody through." if gateway else f"{self.url} fails.",
                got=got,
                expected="HTTP 200",
                fix="Send what the gateway before it asks for, with `headers`: Authorization, or Host."
                if gateway
                else "Look into the endpoint's log.",
            )
        try:
            return Prediction.model_validate(json.loads(answer.body)["predictions"][0])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            wrong = isinstance(error, ValidationError) and error.errors()[0]
            raise ServingError(
                f"{self.address} gives no prediction.",
                got=f"{wrong['loc'][0]}: {wrong['msg']}" if wrong else _message(answer.body),
                expected="an endpoint of defectline",
                fix="Correct the URL.",
            ) from error


class Client(_Endpoint):
    """Asks one endpoint; safe to use from several threads, which share its connections."""

    def _open(self) -> None:
        self._http = httpx.Client()

    def inspect(
        self, picture: Picture, *, mask: bool = True, threshold: float | None = None, request_id: str = ""
    ) -> Prediction:
        """The prediction for a picture file or its content.

        `mask=False` leaves the mask out, `threshold` judges by another one than the model's, `request_id` is
        what the endpoint's log calls the request. Raises Refused for what is no picture, SettingsError for a
        file that cannot be read, ServingError where the endpoint gives no answer before the deadline, and
        TypeError for what is neither a file nor its content.
        """
        body, what = _content(picture)
        asked = _query(mask, threshold, request_id)
        tries = _Tries(*self._told)
        while True:
            try:
                answer = self._post(body, asked, tries.timeout_s())
            except httpx.TransportError as error:
                pause = tries.pause_s(self._unreachable(error))
            else:
                busy = self._busy(answer)
                if busy is None:
                    return self._prediction(answer, what)
                pause = tries.pause_s(busy, _retry_after(answer.headers))
            time.sleep(pause)

    def _post(self, body: bytes, asked: Mapping[str, str], timeout_s: float) -> _Answer:
        end = time.monotonic() + timeout_s
        parts = []
        request = self._http.stream(
            "POST", self.address, params=asked, content=body, headers=self._headers, timeout=timeout_s
        )
        with request as answer:
            # httpx limits the wait for each piece, not for the whole.
            for part in answer.iter_bytes():
                parts.append(part)
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the answer comes too slowly")
        return _Answer(answer.status_code, answer.headers, b"".join(parts))

    def check_reachable(self) -> None:
        """Raise ServingError where nothing answers at the URL; whatever answers will do. Tries once."""
        try:
            self._http.get(self.url, timeout=self._told[1])
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Endpoint):
    """As Client, for asyncio."""

    def _open(self) -> None:
        self._http = httpx.AsyncClient()

    async def inspect(
        self, picture: Picture, *, mask: bool = True, threshold: float | None = None, request_id: str = ""
    ) -> Prediction:
        """As Client.inspect."""
        body, what = await asyncio.to_thread(_content, picture)
        asked = _query(mask, threshold, request_id)
        tries = _Tries(*self._told)
        while True:
            try:
                answer = await self._post(body, asked, tries.timeout_s())
            except (httpx.TransportError, TimeoutError) as error:
                pause = tries.pause_s(self._unreachable(error))
            else:
                busy = self._busy(answer)
                if busy is None:
                    return self._prediction(answer, what)
                pause = tries.pause_s(busy, _retry_after(answer.headers))
            await asyncio.sleep(pause)

    async def _post(self, body: bytes, asked: Mapping[str, str], timeout_s: float) -> _Answer:
        async with asyncio.timeout(timeout_s):
            answer = await self._http.post(
                self.address, params=asked, content=body, headers=self._headers, timeout=timeout_s
            )
        return _Answer(answer.status_code, answer.headers, answer.content)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _content(picture: Picture) -> tuple[bytes, str]:
    """The bytes to send, and what they are called in errors."""
    if isinstance(picture, Path):
        return read_file(picture, "a picture file"), str(picture)
    if not isinstance(picture, bytes | bytearray | memoryview):
        raise TypeError(f"a picture is a pathlib.Path or a file's bytes, not {type(picture).__name__}")
    return bytes(picture), "the picture"


def _query(mask: bool, threshold: float | None, request_id: str) -> dict[str, str]:
    chosen = {
        "mask": "" if mask else "none",
        "threshold": "" if threshold is None else str(threshold),
        "request_id": request_id,
    }
    return {name: value for name, value in chosen.items() if value}


def _message(body: bytes) -> str:
    """What an error's body says, in one short line."""
    try:
        said = json.loads(body)["error"]
        if isinstance(said, dict):
            request = f" (request {said['request_id']})" if said.get("request_id") else ""
            said = f"{said['message']}{request}"
    except (ValueError, KeyError, TypeError):
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:300] or "an empty answer"


def _code(body: bytes) -> str:
    """Of an error; empty where the answer is not the endpoint's own."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the server asks to wait, which it may say as a number or as a date."""
    said = headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
