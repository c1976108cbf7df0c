"""KFP's generated client, which waits no longer than it should and takes only answers of the API's form."""

import json
import re
from types import TracebackType
from typing import Any, Self

import kfp_server_api as api
import urllib3
from urllib3 import exceptions as http

from defectline.pipeline.kfp_server.form import OddAnswer, check_form

READ_TIMEOUT_S = (10, 15)
"""Connect and read timeouts of a request that changes nothing."""
CHANGE_TIMEOUT_S = (10, 60)
"""Those of one that does, such as an upload, and of one that is waited for anyway."""
RETRY_BACKOFF_S = 0.2
"""Repetitions of a request come after 0, 2 and 4 times this."""


class Unanswered(Exception):
    """A request without an answer; `changes` tells whether it may have changed something all the same."""

    def __init__(self, error: http.HTTPError, changes: bool, timeouts_s: tuple[float, float]):
        super().__init__(str(error))
        self.reason = error.reason if isinstance(error, http.MaxRetryError) else error
        self.changes, self.timeout_s = changes, timeouts_s[not isinstance(error, http.ConnectTimeoutError)]


class Patience(urllib3.Retry):
    """Tries reading again where the server or the connection failed, but not where it stays silent."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: urllib3.connectionpool.ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, http.TimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class Client(api.ApiClient):
    """Raises OddAnswer, Unanswered, or ApiException for a refusal."""

    def __init__(self, configuration: api.Configuration):
        # Only reading is tried again after an answer: a second POST could start a second run.
        configuration.retries = Patience(
            total=3,
            backoff_factor=RETRY_BACKOFF_S,
            allowed_methods={"GET"},
            status_forcelist={429, 500, 502, 503, 504},
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        super().__init__(configuration)

    def request(self, method: str, url: str, **options: Any) -> Any:
        changes = method != "GET"
        timeouts_s = options["_request_timeout"] or (CHANGE_TIMEOUT_S if changes else READ_TIMEOUT_S)
        try:
            answer = super().request(method, url, **options | {"_request_timeout": timeouts_s})
        except http.HTTPError as error:
            raise Unanswered(error, changes, timeouts_s) from None
        except api.ApiException as error:
            # The page of a proxy may have any encoding; the generated client takes UTF-8 alone.
            error.body = (error.body or b"").decode(errors="replace").encode()
            raise
        kind = answer.getheader("content-type") or "no content type"
        if "json" not in kind or re.search(r"charset=(?!utf-?8\b)\w", kind, re.IGNORECASE):
            raise OddAnswer(f"an answer of {kind}, such as a login page")
        try:
            answer.data.decode()
        except UnicodeDecodeError:
            raise OddAnswer("an answer that is not UTF-8") from None
        return answer

    def deserialize(self, response: Any, response_type: str) -> Any:
        try:
            content = json.loads(response.data)
        except ValueError:
            raise OddAnswer(f"an answer that is not JSON: {response.data[:80]!r}") from None
        if response_type != "object":
            check_form(content, response_type, "the answer")
        return super().deserialize(response, response_type)
