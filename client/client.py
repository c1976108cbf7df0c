"""Client and AsyncClient: an image is sent, a Prediction comes back.

What may succeed a moment later is sent again: a connection that fails, an answer that does not come in time,
and HTTP 429, 502, 503 and 504, after the server's Retry-After or the pauses of `retry`.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from defectline.client.retry import Retry, Unavailable, attempts, parse_retry_after
from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.files import read_file
from defectline.components.common.prediction import Prediction

BUSY = (429, 502, 503, 504)
REFUSED = (400, 413, 415, 422)
"""What is said of an image, and not of the endpoint."""

Image = bytes | bytearray | memoryview | Path
"""An image file, or its content."""


class Refused(ServingError):
    """The endpoint does not accept this image; it may accept others."""


class _Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False)
class _Endpoint:
    """What both clients have in common. Raises SettingsError for what is not a URL."""

    url: str
    name: str = "defects"
    _: KW_ONLY
    timeout_s: float = 10.0
    """For one attempt."""
    retries: int = 10
    deadline_s: float = 30.0
    """For all attempts, pauses included."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Sent with each image: Authorization, or Host where a gateway routes by it."""
    token_file: Path | None = None
    """Its first token is sent as Authorization."""

    def __post_init__(self) -> None:
        if not _is_url(self.url):
            raise SettingsError(
                "The endpoint's URL cannot be used.",
                got=str(self.url),
                expected="http://host:port or https://host, perhaps with a path",
                fix="Correct the URL.",
            )
        _check_limits(timeout_s=self.timeout_s, retries=self.retries, deadline_s=self.deadline_s)
        if self.token_file:
            self.headers = {**(self.headers or {}), "Authorization": f"Bearer {_token(self.token_file)}"}
        _check_headers(self.headers or {})
        self.url = self.url.rstrip("/")
        self.address = f"{self.url}/v1/models/{quote(self.name, safe='')}:predict"
        self._retry = Retry(self.retries, self.timeout_s, self.deadline_s)
        self._headers = {"Content-Type": "image/*", **(self.headers or {})}

    def _roi_of(self, version: str) -> dict[str, Any]:
        """How to ask for a region of interest."""
        model = f"{self.url}/v2/models/{quote(self.name, safe='')}"
        url = f"{model}/versions/{quote(version, safe='')}/roi" if version else f"{model}/roi"
        return {"url": url, "headers": self.headers, "timeout": self.timeout_s}

    def _unreachable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"{self.url} does not answer.",
            got=f"{type(error).__name__}: {error}".rstrip(": "),
            expected="a running endpoint",
            fix="Check that it runs and that the network leads there, or correct the URL.",
        )

    def _check_busy(self, response: _Response) -> _Response:
        """The response itself. Raises Unavailable."""
        if response.status not in BUSY:
            return response
        error = Unavailable(
            f"{self.url} is too busy, or not ready.",
            got=f"HTTP {response.status}: {_message(response.body)}",
            expected="HTTP 200",
            fix="Try again later, send less at once, or let more replicas serve.",
        )
        error.retry_after_s = parse_retry_after(response.headers)
        raise error

    def _parse(self, response: _Response, what: str) -> Prediction:
        got = f"HTTP {response.status}: {_message(response.body)}"
        if response.status == 400 and _code(response.body) == "invalid_request":
            raise ServingError(
                "The endpoint does not accept the parameters that were sent with the image.",
                got=got,
                expected="a threshold from 0.001 to 1, a request_id of letters, digits and . : _ -",
                fix="Correct them; the image was not inspected.",
            )
        if response.status in REFUSED:
            raise Refused(
                f"The endpoint does not accept {what}.",
                got=got,
                expected="an image: PNG, JPEG, BMP, TIFF or WebP",
                fix="Check the image.",
            )
        if response.status == 404:
            raise ServingError(
                f"There is no model {self.name} at {self.url}.",
                got=got,
                expected="the name that the endpoint serves",
                fix="Correct the name, or the URL.",
            )
        if response.status in (401, 403) or 300 <= response.status < 400:
            raise ServingError(
                f"{self.url} refuses access.",
                got=got,
                expected="HTTP 200",
                fix="Send a token with --token-file, or `token_file`; or with `headers` what the gateway in "
                "front of it asks for: Authorization, or Host.",
            )
        if response.status != 200:
            raise ServingError(
                f"{self.url} fails.", got=got, expected="HTTP 200", fix="Look into the endpoint's log."
            )
        try:
            return Prediction.model_validate(json.loads(response.body)["predictions"][0])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            wrong = isinstance(error, ValidationError) and error.errors()[0]
            raise ServingError(
                f"{self.address} gives no prediction.",
                got=f"{wrong['loc'][0]}: {wrong['msg']}" if wrong else _message(response.body),
                expected="an endpoint of defectline",
                fix="Correct the URL.",
            ) from error


class Client(_Endpoint):
    """Asks one endpoint; safe to use from several threads, which share its connections."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._http = httpx.Client()

    def inspect(
        self,
        image: Image,
        *,
        mask: bool = True,
        threshold: float | None = None,
        request_id: str = "",
        review: bool | None = None,
    ) -> Prediction:
        """The prediction for an image file or its content.

        `mask=False` leaves the mask out, `threshold` replaces the model's own, `request_id` is the name of
        the request in the endpoint's log. `review=True` has the image kept for people to review, and
        `review=False` says that it is not from the line: it is neither kept nor counted in drift.

        Raises Refused for what is not an image, SettingsError for a file that cannot be read, ServingError
        where the endpoint gives no answer before the deadline, and TypeError for what is neither a file nor
        its content, a `mask` that is not a bool, or a `review` that is neither a bool nor None.
        """
        body, what = _content(image)
        params = _params(mask, threshold, request_id, review)
        for attempt in attempts(self._retry):
            time.sleep(attempt.pause_s)
            with attempt:
                response = self._check_busy(self._post(body, params, attempt.timeout_s))
        return self._parse(response, what)

    def _post(self, body: bytes, params: Mapping[str, str], timeout_s: float) -> _Response:
        end = time.monotonic() + timeout_s
        parts = []
        request = self._http.stream(
            "POST", self.address, params=params, content=body, headers=self._headers, timeout=timeout_s
        )
        try:
            with request as response:
                # httpx limits the wait for each piece, not for the whole.
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("the answer comes too slowly")
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return _Response(response.status_code, response.headers, b"".join(parts))

    def roi(self, version: str = "") -> bytes | None:
        """The region of interest of the model that serves, or of this version of it, as a PNG that fits every
        image: white where it counts. None where it has none, or another version serves.

        Tries once; raises Unavailable where nothing answers.
        """
        try:
            return _picture(self._http.get(**self._roi_of(version)))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def check_reachable(self) -> None:
        """Raise Unavailable where nothing answers at the URL; any answer will do. Tries once."""
        try:
            self._http.get(self.url, timeout=self.timeout_s)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._http = httpx.AsyncClient()

    async def inspect(
        self,
        image: Image,
        *,
        mask: bool = True,
        threshold: float | None = None,
        request_id: str = "",
        review: bool | None = None,
    ) -> Prediction:
        """As Client.inspect."""
        body, what = await asyncio.to_thread(_content, image)
        params = _params(mask, threshold, request_id, review)
        for attempt in attempts(self._retry):
            await asyncio.sleep(attempt.pause_s)
            with attempt:
                response = self._check_busy(await self._post(body, params, attempt.timeout_s))
        return self._parse(response, what)

    async def _post(self, body: bytes, params: Mapping[str, str], timeout_s: float) -> _Response:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.post(
                    self.address, params=params, content=body, headers=self._headers, timeout=timeout_s
                )
        except (httpx.TransportError, TimeoutError) as error:
            raise self._unreachable(error) from error
        return _Response(response.status_code, response.headers, response.content)

    async def roi(self, version: str = "") -> bytes | None:
        """As Client.roi."""
        try:
            return _picture(await self._http.get(**self._roi_of(version)))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _is_url(url: object) -> bool:
    try:
        parsed = httpx.URL(url) if isinstance(url, str) else httpx.URL("")
    except httpx.InvalidURL:
        return False
    # A port beyond these is found out by the socket alone.
    return parsed.scheme in ("http", "https") and bool(parsed.host) and (parsed.port or 1) < 65_536


def _check_limits(*, timeout_s: float, retries: int, deadline_s: float) -> None:
    """Raise SettingsError where no request could be sent within these."""
    rules = (
        ("timeout_s", timeout_s, int | float, "seconds above 0"),
        ("retries", retries, int, "a whole number, 0 or more"),
        ("deadline_s", deadline_s, int | float, "seconds above 0"),
    )
    for name, value, kind, expected in rules:
        right = isinstance(value, kind) and not isinstance(value, bool)
        # Not a number fails both comparisons.
        if not right or not (value > 0 or (name == "retries" and value == 0)):
            raise SettingsError(
                f"{name} cannot be used.", got=repr(value), expected=expected, fix=f"Correct {name}."
            )


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raise SettingsError, which shows no value, since some are secrets."""
    for name, value in headers.items():
        for text in (name, value):
            if not isinstance(text, str) or not text.isascii() or not text.isprintable():
                raise SettingsError(
                    f"The header {name!r} cannot be sent.",
                    got=f"a {type(text).__name__}"
                    if not isinstance(text, str)
                    else "a letter outside ASCII, or a line break",
                    expected="names and values of printable ASCII",
                    fix="Correct the header; encode what is outside ASCII as the server asks for.",
                )


def _token(file: Path) -> str:
    expected = "a token"
    for line in read_file(file, expected).decode(errors="replace").splitlines():
        if token := line.split("#")[0].split():
            return token[0]
    raise SettingsError(
        f"There is no token in {file}.", got="no word", expected=expected, fix="Write the token into it."
    )


def _content(image: Image) -> tuple[bytes, str]:
    """The bytes to send, and what they are called in errors."""
    if isinstance(image, Path):
        return read_file(image, "an image file"), str(image)
    if not isinstance(image, bytes | bytearray | memoryview):
        raise TypeError(f"an image is a pathlib.Path or a file's bytes, not {type(image).__name__}")
    return bytes(image), "the image"


def _picture(response: httpx.Response) -> bytes | None:
    found = response.status_code == 200 and response.headers.get("content-type") == "image/png"
    return response.content if found else None


def _params(mask: bool, threshold: float | None, request_id: str, review: bool | None) -> dict[str, str]:
    if not isinstance(mask, bool):
        raise TypeError(f"mask is True or False, not {mask!r}")
    if not isinstance(review, bool | None):
        raise TypeError(f"review is True, False or None, not {review!r}")
    chosen = {
        "mask": "" if mask else "none",
        "threshold": "" if threshold is None else str(threshold),
        "request_id": request_id,
        "review": "" if review is None else str(review).lower(),
    }
    return {name: value for name, value in chosen.items() if value}


def _message(body: bytes) -> str:
    """The message of an error's body, in one short line."""
    try:
        content = json.loads(body)
        told = content["error"] if isinstance(content["error"], dict) else content
        request = f" (request {told['request_id']})" if told.get("request_id") else ""
        message = f"{told.get('message', content['error'])}{request}"
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return " ".join(str(message).split())[:300] or "an empty answer"


def _code(body: bytes) -> str:
    """Of an error; empty where the answer is not the endpoint's own."""
    try:
        content = json.loads(body)
        return str(content["code"] if isinstance(content["error"], str) else content["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
