"""The endpoint over HTTP: V1, V2, the predecessor's body, health, metrics and their description."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from defectline.components.serve.model import DefectModel
from defectline.components.serve.monitoring.logs import Trace, log
from defectline.components.serve.protocol import errors, openapi, requests
from defectline.components.serve.protocol import responses as answers
from defectline.components.serve.protocol.errors import Refusal
from defectline.components.serve.protocol.page import inspection_page

BODY_S = 30.0
"""A body that takes longer to arrive is given up."""
DISCARD_S = 5.0
"""How long the rest of a refused body is read and thrown away: its sender reads the answer only then."""
PATH_CHARACTERS = 200
"""Of a path, in the log: anybody may send one of any length."""
GONE = 499
"""Logged where the caller went away before the answer."""
JSON_LENGTH = "inference-header-content-length"
QUIET = ("/", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Asked by probes every few seconds: neither logged nor counted."""


class Limits(NamedTuple):
    body_bytes: int
    body_s: float = BODY_S

    def room_bytes(self, own: int) -> int:
        """What all bodies that are not answered yet may hold together while one of them holds `own`.

        A third is for small ones alone: large ones that come slowly must not hold them up.
        """
        return (3 if own <= self.body_bytes // 64 else 2) * self.body_bytes


class Held:
    """Bytes of the bodies that are in memory, over all requests."""

    def __init__(self) -> None:
        self.bytes = 0


class Front:
    """Around the whole app: an id for each request, one line in the log and one count at its end."""

    def __init__(self, app: ASGIApp, model: DefectModel):
        self.app, self.model = app, model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        call = f"{scope['method']} {scope['path'][:PATH_CHARACTERS]}"
        trace = scope["trace"] = Trace(requests.new_request_id(headers.get(b"x-request-id")), call)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace.request_id.encode())]
                if self.model.ending:
                    # Whoever keeps the connection would lose the request after the last.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:
            status = GONE
        except Exception:
            # Starlette raises what it has already answered with 500.
            log("a request failed", 40, exc_info=True, request_id=trace.request_id)
        finally:
            if not _quiet(scope["path"], status):
                if (status or GONE) == GONE:
                    trace.code = "gone"
                trace.end(status or GONE, self.model.metrics)


def _quiet(path: str, status: int) -> bool:
    v1_ready = path.startswith("/v1/models/") and ":" not in path and status == 200
    return path in QUIET or path.endswith("/ready") or v1_ready


class Body:
    """A request's body, taken in no faster than it is wanted and no longer than it is allowed."""

    def __init__(self, request: Request, limits: Limits, held: Held):
        self._request, self._limits = request, limits
        self._all, self._own = held, 0
        self._chunks: list[bytes] = []
        self._ended = False

    async def read(self) -> bytes:
        """The whole body, which counts as held until it is released. Raises Refusal where it is too large or
        too slow, or where the bodies of others leave no room for it."""
        declared = self._request.headers.get("content-length", "")
        # A length that is a lie is for the HTTP server; it counts the bytes.
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        if self._request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal("unsupported_media_type", "The body has a Content-Encoding. Send it as it is.")
        try:
            async with asyncio.timeout(self._limits.body_s):
                while not self._ended:
                    self._chunks.append(await self._next())
                    self._own += len(self._chunks[-1])
                    self._all.bytes += len(self._chunks[-1])
                    if self._own > self._limits.body_bytes:
                        raise self._too_large()
                    if self._all.bytes > self._limits.room_bytes(self._own):
                        raise Refusal("overloaded", "Too many large bodies arrive at once. Ask again later.")
        except TimeoutError:
            raise Refusal(
                "body_timeout", f"The body did not arrive within {self._limits.body_s:g} s."
            ) from None
        whole = b"".join(self._chunks)
        self._chunks.clear()
        return whole

    def release(self) -> None:
        """Give its memory back."""
        self._chunks.clear()
        self._all.bytes -= self._own
        self._own = 0

    async def discard(self) -> None:
        """Read what is left and forget it, for a while."""
        self.release()
        try:
            async with asyncio.timeout(DISCARD_S):
                while not self._ended:
                    await self._next()
        except TimeoutError:
            return  # The answer goes out all the same.

    async def _next(self) -> bytes:
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise ClientDisconnect
        self._ended = not message.get("more_body", False)
        return message.get("body", b"")

    def _too_large(self) -> Refusal:
        limit = self._limits.body_bytes / 1e6
        return Refusal("too_large", f"The body is too large. Send at most {limit:g} MB.")


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Endpoint:
    """The handlers of all routes."""

    def __init__(self, model: DefectModel, limits: Limits, page: bool):
        self.model, self.limits, self.held = model, limits, Held()
        self.schema = openapi.schema(model, limits.body_bytes, page)
        self._page = inspection_page(model.name)

    # Predictions

    async def predict_v1(self, request: Request) -> Response:
        trace = request.scope["trace"]
        trace.protocol = "v1"

        def understand(body: bytes) -> requests.Asked:
            trace.protocol = kind = "v1_raw" if _is_picture(request, body) else "v1_json"
            read = requests.read_raw if kind == "v1_raw" else requests.read_v1
            asked = read(body, request.query_params)
            trace.request_id = asked.parameters.request_id or trace.request_id
            return asked

        asked, answered = await self._answer(request, understand)
        if asked.protocol == "predecessor":
            return Json(answers.to_predecessor(answered))
        return Json(answers.to_v1(asked, answered))

    async def infer_v2(self, request: Request) -> Response:
        trace = request.scope["trace"]
        trace.protocol = "v2"

        def understand(body: bytes) -> requests.Asked:
            kind = _media_type(request)
            if kind not in ("", "application/json", "application/octet-stream"):
                raise _wrong_type(kind, "application/json or application/octet-stream")
            asked, id_ = requests.read_v2(body, request.headers.get(JSON_LENGTH), request.query_params)
            trace.request_id = asked.parameters.request_id or id_ or trace.request_id
            return asked

        asked, answered = await self._answer(request, understand)
        body, json_length = answers.to_v2(asked, answered)
        if json_length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={JSON_LENGTH: str(json_length)})

    async def _answer(
        self, request: Request, understand: Callable[[bytes], requests.Asked]
    ) -> tuple[requests.Asked, answers.Answered]:
        """Everything between a request and the form of its answer. Raises Refusal."""
        trace, body = request.scope["trace"], Body(request, self.limits, self.held)
        name = request.path_params["name"]
        try:
            self.model.check(name, request.path_params.get("version"))
            # Before the body takes memory.
            self.model.admission.check()
            data = await body.read()
            trace.received_bytes = len(data)
            asked = understand(data)
            del data  # What is asked has the pictures.
            trace.protocol = asked.protocol
            return asked, await self.model.predict(asked, trace=trace, model_name=name)
        except Refusal:
            await body.discard()
            raise
        finally:
            body.release()

    # Health and description

    async def live(self, _: Request) -> Response:
        return Json({"status": "alive"})

    async def live_v2(self, _: Request) -> Response:
        return Json({"live": True})

    async def ready(self, _: Request) -> Response:
        self.model.check_ready(self.model.name)
        return Json({"ready": True})

    async def models(self, _: Request) -> Response:
        return Json({"models": list(self.model.names)})

    async def model_ready(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name.endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        self.model.check_ready(name, request.path_params.get("version"))
        return Json({"name": name, "ready": True})

    async def server_metadata(self, _: Request) -> Response:
        return Json(openapi.server_metadata())

    async def model_metadata(self, request: Request) -> Response:
        name = request.path_params["name"]
        loaded = self.model.check(name, request.path_params.get("version"))
        bundle, engine = loaded.bundle, self.model.how.engine
        return Json(openapi.model_metadata(name, bundle.version, bundle.grades is not None, engine))

    async def metrics(self, request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self.model.metrics.registry), headers={"content-type": content_type})

    async def page(self, _: Request) -> Response:
        return Response(self._page.html, headers=self._page.headers)

    async def openapi(self, _: Request) -> Response:
        return Json(self.schema)

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(openapi.page(self.schema))


def make_app(
    model: DefectModel, limits: Limits, lifespan: Lifespan | None = None, page: bool = True
) -> ASGIApp:
    """The ASGI app; at / with the page for people, or with a plain sign of life."""
    end = Endpoint(model, limits, page)
    of_model = "/v2/models/{name}"
    of_version = of_model + "/versions/{version}"
    routes = {
        "/": end.page if page else end.live,
        "/v1/models": end.models,
        "/v1/models/{name}": end.model_ready,
        "/v2": end.server_metadata,
        "/v2/health/live": end.live_v2,
        "/v2/health/ready": end.ready,
        "/v2/models": end.models,
        of_model: end.model_metadata,
        of_version: end.model_metadata,
        f"{of_model}/ready": end.model_ready,
        f"{of_version}/ready": end.model_ready,
        "/metrics": end.metrics,
        "/openapi.json": end.openapi,
        "/docs": end.docs,
    }
    app = Starlette(
        routes=[
            Route("/v1/models/{name}:predict", end.predict_v1, methods=["POST"]),
            Route(f"{of_model}/infer", end.infer_v2, methods=["POST"]),
            Route(f"{of_version}/infer", end.infer_v2, methods=["POST"]),
            *(Route(path, handler, methods=["GET"]) for path, handler in routes.items()),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _not_here, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Front(app, model)


def _error(
    request: Request, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    trace = request.scope["trace"]
    trace.code = code
    return Json(errors.body(code, message, trace.request_id), status, headers)


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    wait = refusal.retry_after_s
    headers = {} if wait is None else {"retry-after": str(wait)}
    return _error(request, refusal.http, refusal.code, refusal.message, headers)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"The method is {request.method[:20]!r}. Expected {allowed}."
        return _error(request, 405, "method_not_allowed", message, {"allow": allowed})
    return _error(request, 404, "not_found", "There is no such path. /openapi.json lists all paths.")


async def _failed(request: Request, _: Exception) -> Response:
    return _error(request, 500, "internal", errors.INTERNAL)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_picture(request: Request, body: bytes) -> bool:
    """Whether the body of V1 is a picture, not JSON. Raises Refusal for any other type."""
    kind = _media_type(request)
    if not kind:
        return body.lstrip()[:1] != b"{"
    if kind == "application/json" or kind.endswith("+json"):
        return False
    if kind.startswith("image/") or kind == "application/octet-stream":
        return True
    raise _wrong_type(kind, "image/png or the like, application/octet-stream, or application/json")


def _wrong_type(kind: str, expected: str) -> Refusal:
    return Refusal("unsupported_media_type", f"Content-Type is {kind[:60]!r}. Expected {expected}.")
