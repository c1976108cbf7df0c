"""The endpoint over gRPC: inference.GRPCInferenceService, as V2 defines it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2, health_pb2_grpc

from defectline.components.serve.model import DefectModel
from defectline.components.serve.monitoring.logs import Trace, log
from defectline.components.serve.protocol import errors, openapi, requests, responses
from defectline.components.serve.protocol.door import OPEN, Door
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.sdk import messages
from defectline.components.serve.settings import Guarded

SERVICE = "inference.GRPCInferenceService"
HEALTH = ("ServerLive", "ServerReady", "ModelReady")
WATCH_S = 0.5
"""How often the state of those who watch is looked at."""
ENVELOPE_BYTES = 65536
"""For what a message has in addition to the picture."""

Call = Callable[[Any, Trace, DefectModel], Awaitable[Message]]


class Service:
    """One method a call of the protocol; those that load and unload models are left out on purpose."""

    def __init__(self, models: Sequence[DefectModel], door: Door):
        """A request that names none of the `models` is the first one's, which refuses it for all."""
        self.models, self.door = models, door
        self._by_name = {name: model for model in models for name in model.names}

    def _named(self, request: Any) -> DefectModel:
        name = getattr(request, "model_name", "") or getattr(request, "name", "")
        return self._by_name.get(name, self.models[0])

    def handler(self) -> grpc.GenericRpcHandler:
        calls: dict[str, tuple[type, Call]] = {
            "ServerLive": (messages.ServerLiveRequest, self._live),
            "ServerReady": (messages.ServerReadyRequest, self._ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": (messages.ModelInferRequest, self._infer),
        }
        # gRPC's own deserializer would answer bytes that are not a message with INTERNAL.
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(name, kind, call), response_serializer=lambda m: m.SerializeToString()
                )
                for name, (kind, call) in calls.items()
            },
        )

    def _answering(
        self, name: str, kind: type, call: Call
    ) -> Callable[[bytes, ServicerContext], Awaitable[Message]]:
        async def method(data: bytes, context: ServicerContext) -> Message:
            given = dict(context.invocation_metadata() or ())
            trace = Trace(requests.new_request_id(_text(given.get("x-request-id"))), name, "grpc")
            trace.received_bytes = len(data)
            trace.traceparent = _text(given.get("traceparent")) or ""
            trace.tracestate = _text(given.get("tracestate")) or ""
            status, model = "CANCELLED", self.models[0]
            try:
                address, authorization = context.peer().rpartition(":")[0], _text(given.get("authorization"))
                wanted: Guarded | None = "health" if name in HEALTH else None
                self.door.let_in(authorization, address, wanted, asks=name == "ModelInfer")
                request = requests.parse_grpc(kind, data)
                model = self._named(request)
                answer = await call(request, trace, model)
                context.set_trailing_metadata((("x-request-id", trace.request_id),))
                status = "OK"
                return answer
            except ApiError as error:
                status, trace.code = error.grpc, error.code
                more = {"x-request-id": trace.request_id}
                if error.retry_after_s is not None:
                    more["retry-after"] = str(error.retry_after_s)
                await _abort(context, status, error.message, more)
            except Exception:
                status, trace.code = "INTERNAL", "internal"
                log("a request failed", 40, exc_info=True, request_id=trace.request_id)
                await _abort(context, status, errors.INTERNAL, {"x-request-id": trace.request_id})
            finally:
                if name == "ModelInfer" or status not in ("OK", "UNAVAILABLE"):
                    model.end(trace, status)
            raise AssertionError  # abort has raised

        return method

    async def _live(self, _: messages.ServerLiveRequest, __: Trace, ___: DefectModel) -> Message:
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, _: messages.ServerReadyRequest, __: Trace, ___: DefectModel) -> Message:
        return messages.ServerReadyResponse(ready=all_ready(self.models))

    async def _model_ready(
        self, request: messages.ModelReadyRequest, _: Trace, model: DefectModel
    ) -> Message:
        model.check(request.name, request.version or None)
        return messages.ModelReadyResponse(ready=not model.not_ready_reason())

    async def _server_metadata(
        self, _: messages.ServerMetadataRequest, __: Trace, ___: DefectModel
    ) -> Message:
        return messages.ServerMetadataResponse(**openapi.server_metadata())

    async def _model_metadata(
        self, request: messages.ModelMetadataRequest, _: Trace, model: DefectModel
    ) -> Message:
        bundle = model.check(request.name, request.version or None).bundle
        described = openapi.model_metadata(request.name, bundle, model.settings.engine)
        # The message of this version has no field for them.
        del described["properties"]
        return messages.ModelMetadataResponse(**described)

    async def _infer(self, request: messages.ModelInferRequest, trace: Trace, model: DefectModel) -> Message:
        model.check(request.model_name, request.model_version or None)
        model.admission.check(model.name)
        parsed, id_ = requests.read_grpc(request)
        trace.request_id = parsed.parameters.request_id or id_ or trace.request_id
        response = await model.predict(parsed, trace=trace, model_name=request.model_name)
        return responses.to_grpc(parsed, response)


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1: what Kubernetes' probes and load balancers ask."""

    def __init__(self, models: Sequence[DefectModel], door: Door):
        self.models, self.door = models, door

    async def Check(self, request: Any, context: ServicerContext) -> Any:
        await self._let_in(context)
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service here but {SERVICE}.")
        return self._status()

    async def Watch(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        await self._let_in(context)
        last = None
        while True:
            now = self._status()
            if request.service not in ("", SERVICE):
                now = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if now != last:
                yield now
            last = now
            await asyncio.sleep(WATCH_S)

    async def _let_in(self, context: ServicerContext) -> None:
        given = dict(context.invocation_metadata() or ())
        try:
            self.door.let_in(_text(given.get("authorization")), context.peer(), "health")
        except ApiError as error:
            await context.abort(grpc.StatusCode[error.grpc], error.message)

    def _status(self) -> Any:
        kinds = health_pb2.HealthCheckResponse
        return kinds(status=kinds.SERVING if all_ready(self.models) else kinds.NOT_SERVING)


def all_ready(models: Iterable[DefectModel]) -> bool:
    return not any(model.not_ready_reason() for model in models)


def make_server(
    models: Sequence[DefectModel], port: int, body_bytes: int, address: str = "[::]", door: Door = OPEN
) -> grpc.aio.Server:
    """A server at `address`, not yet started; messages of more than `body_bytes` are refused by gRPC itself,
    with RESOURCE_EXHAUSTED."""
    size = body_bytes + ENVELOPE_BYTES
    options = [
        ("grpc.max_receive_message_length", size),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would share its requests between them.
        ("grpc.so_reuseport", 0),
        # Clients behind balancers ping every second or so; gRPC would hang up on them as too many.
        ("grpc.http2.max_ping_strikes", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((Service(models, door).handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(models, door), server)
    server.add_insecure_port(f"{address}:{port}")
    return server


async def _abort(context: ServicerContext, status: str, message: str, metadata: dict[str, str]) -> None:
    await context.abort(grpc.StatusCode[status], message, tuple(metadata.items()))


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None
