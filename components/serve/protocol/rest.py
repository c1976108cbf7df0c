"""The endpoint over HTTP: V1, V2, the legacy body, health, metrics and their description."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from defectline.components.serve.model import DefectModel
from defectline.components.serve.monitoring.logs import Trace, log
from defectline.components.serve.protocol import errors, openapi, requests, responses
from defectline.components.serve.protocol.body import Body, BodyBudget, Limits
from defectline.components.serve.protocol.door import OPEN, Door
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.page import inspection_page
from defectline.components.serve.settings import Guarded
from defectline.components.serve.several import OfAll

PATH_CHARACTERS = 200
"""Of a path, in the log: a caller may send one of any length."""
GONE = 499
"""Logged where the caller went away before the answer."""
JSON_LENGTH = "inference-header-content-length"
HEALTH = ("/", "/v2/health/live", "/v2/health/ready")
QUIET = (*HEALTH, "/metrics")
"""Requested by probes every few seconds: neither logged nor counted."""


class RequestMiddleware:
    """Gives each request an id, and at its end one line in the log and one count."""

    def __init__(self, app: ASGIApp, model: DefectModel):
        self.app, self.model = app, model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        call = f"{scope['method']} {scope['path'][:PATH_CHARACTERS]}"
        trace = scope["trace"] = Trace(requests.new_request_id(headers.get(b"x-request-id")), call)
        trace.traceparent = headers.get(b"traceparent", "")
        trace.tracestate = headers.get(b"tracestate", "")
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace.request_id.encode())]
                if self.model.draining:
                    # A client that keeps the connection would lose its next request.
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
                self.model.end(trace, status or GONE)


def _quiet(path: str, status: int) -> bool:
    v1_ready = path.startswith("/v1/models/") and ":" not in path and status == 200
    return path in QUIET or path.endswith("/ready") or v1_ready


class DoorMiddleware:
    """Lets in who may ask, before anything of a body is read."""

    def __init__(self, app: ASGIApp, door: Door):
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        address = request.client.host if request.client else ""
        authorization = request.headers.get("authorization")
        reads = request.method in ("GET", "HEAD")
        try:
            # The page asks with the token that is typed into it.
            if not (reads and request.url.path == "/" and _wants_page(request)):
                kind = _kind(request.url.path) if reads else None
                self.door.let_in(authorization, address, kind, asks=request.method == "POST")
        except ApiError as error:
            return await (await _api_error(request, error))(scope, receive, send)
        await self.app(scope, receive, send)


def _kind(path: str) -> Guarded | None:
    if path == "/metrics":
        return "metrics"
    ready = re.fullmatch("/v1/models/[^/:]+|/v2/models/[^/]+(/versions/[^/]+)?/ready", path)
    return "health" if path in HEALTH or ready else None


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Endpoint:
    """The handlers of all routes."""

    def __init__(
        self,
        model: DefectModel,
        limits: Limits,
        page: bool,
        guarded: bool = False,
        beside: Sequence[DefectModel] = (),
        budget: BodyBudget | None = None,
    ):
        self.model, self.limits, self.budget = model, limits, budget or BodyBudget()
        self.all = (model, *beside)
        self.schema = openapi.schema(model, limits.body_bytes, page, guarded)
        self._page = inspection_page(model.name, model.keeps_frames, model.beside)

    # Predictions

    async def predict_v1(self, request: Request) -> Response:
        trace = request.scope["trace"]
        trace.protocol = "v1"

        def parse(body: bytes) -> requests.InferenceRequest:
            trace.protocol = kind = "v1_raw" if _is_picture(request, body) else "v1_json"
            read = requests.read_raw if kind == "v1_raw" else requests.read_v1
            parsed = read(body, request.query_params)
            trace.request_id = parsed.parameters.request_id or trace.request_id
            return parsed

        parsed, response = await self._infer(request, parse)
        if parsed.protocol == "legacy":
            return Json(responses.to_legacy(response))
        return Json(responses.to_v1(parsed, response))

    async def infer_v2(self, request: Request) -> Response:
        trace = request.scope["trace"]
        trace.protocol = "v2"

        def parse(body: bytes) -> requests.InferenceRequest:
            kind = _media_type(request)
            if kind not in ("", "application/json", "application/octet-stream"):
                raise _wrong_type(kind, "application/json or application/octet-stream")
            parsed, id_ = requests.read_v2(body, request.headers.get(JSON_LENGTH), request.query_params)
            trace.request_id = parsed.parameters.request_id or id_ or trace.request_id
            return parsed

        parsed, response = await self._infer(request, parse)
        body, json_length = responses.to_v2(parsed, response)
        if json_length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={JSON_LENGTH: str(json_length)})

    async def _infer(
        self, request: Request, parse: Callable[[bytes], requests.InferenceRequest]
    ) -> tuple[requests.InferenceRequest, responses.InferenceResponse]:
        """What V1 and V2 share: check, read the body, parse it, predict. Raises ApiError."""
        trace, body = request.scope["trace"], Body(request, self.limits, self.budget)
        name = request.path_params["name"]
        try:
            self.model.check(name, request.path_params.get("version"))
            # Before the body takes memory.
            self.model.admission.check(self.model.name)
            data = await body.read()
            trace.received_bytes = len(data)
            parsed = parse(data)
            del data  # The parsed request has the pictures.
            trace.protocol = parsed.protocol
            return parsed, await self.model.predict(parsed, trace=trace, model_name=name)
        except ApiError:
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
        for model in self.all:
            model.check_ready(model.name)
        return Json({"ready": True})

    async def models(self, _: Request) -> Response:
        return Json({"models": [name for model in self.all for name in model.names]})

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
        engine, drifted = self.model.settings.engine, loaded.drift.tripped()
        return Json(openapi.model_metadata(name, loaded.bundle, engine, drifted))

    async def roi(self, request: Request) -> Response:
        """The region of interest as PNG; no content where the model has none."""
        roi = self.model.check(request.path_params["name"], request.path_params.get("version")).roi
        return Response(roi, media_type="image/png") if roi else Response(status_code=204)

    async def metrics(self, request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        registries = {model.name: model.metrics.registry for model in self.all}
        told = OfAll(registries) if len(registries) > 1 else self.model.metrics.registry
        return Response(encoder(told), headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        """For browsers; KServe's clients ask here as well whether the server is alive, with V1."""
        if not _wants_page(request):
            return await self.live(request)
        return Response(self._page.html, headers=self._page.headers)

    async def openapi(self, _: Request) -> Response:
        return Json(self.schema)

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(openapi.page(self.schema))


def make_app(
    model: DefectModel,
    limits: Limits,
    lifespan: Lifespan | None = None,
    page: bool = True,
    origins: Sequence[str] = (),
    door: Door = OPEN,
    beside: Sequence[DefectModel] = (),
    budget: BodyBudget | None = None,
) -> ASGIApp:
    """The ASGI app; at / with the page for people, or with the status alone. Scripts of pages from `origins`
    may ask it, "*" for any; the `door` lets clients in. What is told of the server is told of the models
    `beside` as well, whose bodies share the `budget`."""
    endpoint = Endpoint(model, limits, page, door.tokens is not None, beside, budget)
    of_model = "/v2/models/{name}"
    of_version = of_model + "/versions/{version}"
    routes = {
        "/": endpoint.page if page else endpoint.live,
        "/v1/models": endpoint.models,
        "/v1/models/{name}": endpoint.model_ready,
        "/v2": endpoint.server_metadata,
        "/v2/health/live": endpoint.live_v2,
        "/v2/health/ready": endpoint.ready,
        "/v2/models": endpoint.models,
        of_model: endpoint.model_metadata,
        of_version: endpoint.model_metadata,
        f"{of_model}/ready": endpoint.model_ready,
        f"{of_version}/ready": endpoint.model_ready,
        f"{of_model}/roi": endpoint.roi,
        f"{of_version}/roi": endpoint.roi,
        "/metrics": endpoint.metrics,
        "/openapi.json": endpoint.openapi,
        "/docs": endpoint.docs,
    }
    app = Starlette(
        routes=[
            Route("/v1/models/{name}:predict", endpoint.predict_v1, methods=["POST"]),
            Route(f"{of_model}/infer", endpoint.infer_v2, methods=["POST"]),
            Route(f"{of_version}/infer", endpoint.infer_v2, methods=["POST"]),
            *(Route(path, handler, methods=["GET"]) for path, handler in routes.items()),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _no_route, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    inner: ASGIApp = DoorMiddleware(app, door)
    if origins:
        # Around the door: a browser asks beforehand without a token.
        inner = CORSMiddleware(
            inner,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id", JSON_LENGTH],
            expose_headers=["x-request-id", "retry-after", JSON_LENGTH],
        )
    return RequestMiddleware(inner, model)


def _error(
    request: Request, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    trace = request.scope["trace"]
    trace.code = code
    v2 = request.url.path == "/v2" or request.url.path.startswith("/v2/")
    return Json(errors.body(code, message, trace.request_id, v2), status, headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    wait = error.retry_after_s
    headers = {} if wait is None else {"retry-after": str(wait)}
    if error.http == 401:
        headers["www-authenticate"] = "Bearer"
    return _error(request, error.http, error.code, error.message, headers)


async def _no_route(request: Request, error: Exception) -> Response:
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
    """Whether the body of V1 is a picture, and not JSON. Raises ApiError for any other type."""
    kind = _media_type(request)
    if not kind:
        return body.lstrip()[:1] != b"{"
    if kind == "application/json" or kind.endswith("+json"):
        return False
    if kind.startswith("image/") or kind == "application/octet-stream":
        return True
    raise _wrong_type(kind, "image/png or the like, application/octet-stream, or application/json")


def _wrong_type(kind: str, expected: str) -> ApiError:
    return ApiError("unsupported_media_type", f"Content-Type is {kind[:60]!r}. Expected {expected}.")
