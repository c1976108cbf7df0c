"""Requests to a labelling tool's server, and what goes wrong with them in words."""

from collections.abc import Callable
from typing import Any

import httpx

from defectline.components.common.errors import ServingError, SettingsError

TIMEOUT_S = 60.0
SHOWN = 300
"""Characters of an answer that a message repeats."""


class Api:
    """The REST API of the `tool` at `url`; `key` names the environment variable of its token.

    `sign_in` gives the header Authorization, at first and whenever the last one is no longer good.
    """

    def __init__(self, url: str, tool: str, key: str, sign_in: Callable[[], str]):
        self.url, self._tool, self._key, self._sign_in = url.rstrip("/"), tool, key, sign_in
        try:
            self._client = httpx.Client(base_url=self.url, timeout=TIMEOUT_S)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._no_address(str(error)) from None

    def json(self, method: str, address: str, signed: bool = True, **content: Any) -> Any:
        """The JSON of the answer to a request. Raises SettingsError for an address or token that is wrong,
        ServingError where the server does not answer, or refuses."""
        answer = self._send(method, address, **content)
        if signed and answer.status_code == 401:
            self._client.headers["Authorization"] = self._sign_in()
            answer = self._send(method, address, **content)
        return self._read(answer, f"{method} {address.partition('?')[0]}")

    def _send(self, method: str, address: str, **content: Any) -> httpx.Response:
        try:
            return self._client.request(method, address, **content)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise self._no_address(str(error)) from None
        except httpx.HTTPError as error:
            raise ServingError(
                f"{self._tool} does not answer.",
                got=f"{error or type(error).__name__}, from {self.url}",
                expected=f"{self._tool}'s API",
                fix="Correct --url, or start the server.",
            ) from None

    def _read(self, answer: httpx.Response, request: str) -> Any:
        if answer.status_code in (401, 403):
            raise SettingsError(
                f"{self._tool} refuses the token.",
                got=f"HTTP {answer.status_code} to {request}",
                expected=f"a valid token of {self._tool} in {self._key}",
                fix=f"Copy it from your account in {self._tool}.",
            )
        if answer.status_code == 404:
            raise ServingError(
                f"This is not {self._tool}.",
                got=f"HTTP 404 to {request}, from {self.url}",
                expected=f"{self._tool}'s API",
                fix="Correct --url.",
            )
        if not answer.is_success:
            raise ServingError(
                f"{self._tool} refuses a request.",
                got=f"HTTP {answer.status_code} to {request}: {answer.text[:SHOWN].strip() or 'no text'}",
                expected="success",
                fix=f"Check that {self.url} is {self._tool}, and that you may change the project.",
            )
        try:
            return answer.json()
        except ValueError:
            raise ServingError(
                f"This is not {self._tool}.",
                got=f"{answer.headers.get('content-type', 'something')} from {answer.url}",
                expected=f"JSON of {self._tool}'s API",
                fix="Correct --url.",
            ) from None

    def _no_address(self, got: str) -> SettingsError:
        return SettingsError(
            f"--url is not the address of {self._tool}.",
            got=got,
            expected="http:// or https://, a host and, where it is not the usual one, a port",
            fix="Correct --url.",
        )
