"""Errors of the API: the same JSON for every status.

    {"error": {"code": "too_large", "message": "…", "request_id": "…"}}
    {"error": "…", "code": "too_large", "request_id": "…"}               V2, which has a string there

A message never contains the text of an exception, which could show a stranger the inside of this program.
"""

from typing import NamedTuple


class ErrorCode(NamedTuple):
    http: int
    grpc: str
    """Name in grpc.StatusCode."""


ERROR_CODES = {
    "invalid_request": ErrorCode(400, "INVALID_ARGUMENT"),
    "invalid_image": ErrorCode(400, "INVALID_ARGUMENT"),
    "unauthenticated": ErrorCode(401, "UNAUTHENTICATED"),
    "forbidden": ErrorCode(403, "PERMISSION_DENIED"),
    "not_found": ErrorCode(404, "NOT_FOUND"),
    "method_not_allowed": ErrorCode(405, "UNIMPLEMENTED"),
    "body_timeout": ErrorCode(408, "DEADLINE_EXCEEDED"),
    "too_large": ErrorCode(413, "RESOURCE_EXHAUSTED"),
    "unsupported_media_type": ErrorCode(415, "INVALID_ARGUMENT"),
    "too_many_requests": ErrorCode(429, "RESOURCE_EXHAUSTED"),
    "internal": ErrorCode(500, "INTERNAL"),
    "not_ready": ErrorCode(503, "UNAVAILABLE"),
    "overloaded": ErrorCode(503, "UNAVAILABLE"),
}
RETRY_AFTER_S = 1
"""A picture takes a fraction of a second, so a full queue has room again by then."""


class ApiError(Exception):
    """The request gets no prediction: `code` is one of ERROR_CODES, `message` says what is wrong and how to
    fix it."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def http(self) -> int:
        return ERROR_CODES[self.code].http

    @property
    def grpc(self) -> str:
        return ERROR_CODES[self.code].grpc

    @property
    def retry_after_s(self) -> int | None:
        """When to try again; None where the same request would fail again."""
        return RETRY_AFTER_S if self.http in (429, 503) else None


def body(code: str, message: str, request_id: str, v2: bool = False) -> dict[str, str | dict[str, str]]:
    if v2:
        return {"error": message, "code": code, "request_id": request_id}
    return {"error": {"code": code, "message": message, "request_id": request_id}}


INTERNAL = "Internal error of the server. Its log has more under request_id."
