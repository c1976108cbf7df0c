"""What a caller is told when there is no answer: the same JSON for every protocol and status.

    {"error": {"code": "too_large", "message": "…", "request_id": "…"}}

A message never holds the text of an exception: that would tell strangers about this program's inside.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    http: int
    grpc: str
    """Name in grpc.StatusCode."""


KINDS = {
    "invalid_request": Kind(400, "INVALID_ARGUMENT"),
    "invalid_image": Kind(400, "INVALID_ARGUMENT"),
    "not_found": Kind(404, "NOT_FOUND"),
    "method_not_allowed": Kind(405, "UNIMPLEMENTED"),
    "body_timeout": Kind(408, "DEADLINE_EXCEEDED"),
    "too_large": Kind(413, "RESOURCE_EXHAUSTED"),
    "unsupported_media_type": Kind(415, "INVALID_ARGUMENT"),
    "internal": Kind(500, "INTERNAL"),
    "not_ready": Kind(503, "UNAVAILABLE"),
    "overloaded": Kind(503, "UNAVAILABLE"),
}
RETRY_AFTER_S = 1
"""A picture takes a fraction of a second, so a full queue has room again after this."""


class Refusal(Exception):
    """There will be no answer; `code` is one of KINDS, `message` says what was found and how to mend it."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def http(self) -> int:
        return KINDS[self.code].http

    @property
    def grpc(self) -> str:
        return KINDS[self.code].grpc

    @property
    def retry_after_s(self) -> int | None:
        """When asking again makes sense; None where the same request would be refused again."""
        return RETRY_AFTER_S if self.http == 503 else None


def body(code: str, message: str, request_id: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message, "request_id": request_id}}


INTERNAL = "The request could not be answered, by a fault of the server. Its log has more under request_id."
