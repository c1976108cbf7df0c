"""The review in a browser: frames of the line as pictures, to decide about and to draw masks on.

    GET  /                             the page
    GET  /api/frames                   all frames, those that teach most first
    GET  /api/frames/<id>/image        the frame, as a browser can show it
    GET  /api/frames/<id>/mask         what was drawn or else found: PNG whose greys are numbers of classes
    GET  /api/frames/<id>/likelihood   what the model says of each pixel: PNG whose 255 is a certain defect
    POST /api/frames/<id>              a decision, with the fields of Asked

A decision names the version of the one before that its reviewer had in view (`seen`), so that two people
never overwrite one another; it is answered when it is in the store, with its line in the audit file.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from defectline.components.common.errors import Conflict, DefectlineError
from defectline.components.common.images.colours import COLOURS, encode_numbers
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import decode_image
from defectline.components.common.review import Decided
from defectline.components.common.storage import Storage
from defectline.components.serve.protocol.door import Tokens
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.page import secure_headers
from defectline.pipeline.catalog.review import (
    WHY,
    Item,
    accept,
    classes_of,
    doubts,
    find_frame,
    list_frames,
    predicted_mask,
    read_item,
    teaches_most,
)
from defectline.pipeline.review_app.filling import Likelihood

PAGE = Path(__file__).with_name("page.html")
SHOWN = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "bmp": "image/bmp"}
"""What every browser shows, by suffix."""
BODY_BYTES = 64_000_000


class Asked(BaseModel):
    """The body of a decision."""

    model_config = ConfigDict(extra="forbid")

    verdict: Decided
    seen: str | None
    mask: str | None = None
    """A drawn mask: PNG in base64, white on black or, for several classes, greys that are their numbers."""
    sure: bool = False
    """Whether what is odd about it was seen."""
    by: str = Field(default="", max_length=80)
    """Who decides, as they call themselves; else whom the server was started for."""


class Review(NamedTuple):
    """What a server shows and whom it decides for."""

    store: Storage
    model: str
    by: str


def make_app(review: Review, tokens: Tokens | None = None) -> ASGIApp:
    """The ASGI app; with `tokens` for those alone who send one."""
    models = Likelihood(review.store, review.model)

    async def frames(_: Request) -> Response:
        said: list[str] = []
        items = await run_in_threadpool(list_frames, review.store, review.model, said.append)
        ordered = sorted(items, key=lambda item: (item.decided, *teaches_most(item)))
        return JSONResponse({"frames": [_row(item) for item in ordered], "said": said})

    async def image(request: Request) -> Response:
        def read() -> tuple[bytes, str]:
            item = _item(review, request)
            data, suffix = review.store.read(item.picture_key), item.frame.picture.rpartition(".")[2]
            if suffix in SHOWN:
                return data, SHOWN[suffix]
            _, encoded = cv2.imencode(".png", decode_image(data, channels=3)[..., ::-1])
            return encoded.tobytes(), "image/png"

        data, kind = await run_in_threadpool(read)
        return Response(data, media_type=kind, headers={"Cache-Control": "max-age=86400"})

    async def mask(request: Request) -> Response:
        def read() -> bytes:
            item = _item(review, request)
            if item.decision and item.decision.mask:
                return review.store.read(item.key.folder + item.decision.mask)
            return encode_numbers(predicted_mask(item.frame))

        return Response(await run_in_threadpool(read), media_type="image/png")

    async def likelihood(request: Request) -> Response:
        def read() -> bytes:
            item = _item(review, request)
            found = models.of(item.frame.version, review.store.read(item.picture_key))
            return cv2.imencode(".png", found)[1].tobytes()

        data = await run_in_threadpool(read)
        return Response(data, media_type="image/png", headers={"Cache-Control": "max-age=86400"})

    async def decide(request: Request) -> Response:
        # A page of another origin cannot send this type without being allowed to.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "Send JSON."}, 415)
        if int(request.headers.get("content-length") or 0) > BODY_BYTES:
            return JSONResponse({"error": "The mask is too large."}, 413)
        try:
            asked = Asked.model_validate_json(await request.body())
            drawn = base64.b64decode(asked.mask, validate=True) if asked.mask else None
        except (ValidationError, binascii.Error):
            return JSONResponse({"error": "This is not a decision."}, 400)
        return await run_in_threadpool(_decide, review, request, asked, drawn)

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, DefectlineError)
        return JSONResponse({"error": f"{error.what} {error.fix}"}, 404 if "no frame" in error.what else 400)

    async def page(_: Request) -> Response:
        text = PAGE.read_text(encoding="utf-8")
        for name, value in (("model", review.model), ("by", review.by), ("colours", COLOURS)):
            # No value may end the script.
            text = text.replace(f"{{{{{name}}}}}", json.dumps(value).replace("<", "\\u003c"))
        return Response(text, headers=secure_headers(text))

    routes = [
        Route("/", page),
        Route("/api/frames", frames),
        Route("/api/frames/{id}/image", image),
        Route("/api/frames/{id}/mask", mask),
        Route("/api/frames/{id}/likelihood", likelihood),
        Route("/api/frames/{id}", decide, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={DefectlineError: failed})
    return _guard(app, tokens) if tokens else app


def _guard(app: ASGIApp, tokens: Tokens) -> ASGIApp:
    """The app for those alone who send a token; the page, which asks for it, is for everybody."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/":
            try:
                tokens.check(Headers(scope=scope).get("authorization"))
            except ApiError as error:
                headers = {"WWW-Authenticate": "Bearer"}
                answer = JSONResponse({"error": error.message}, error.http, headers)
                return await answer(scope, receive, send)
        await app(scope, receive, send)

    return guarded


def _item(review: Review, request: Request) -> Item:
    return read_item(review.store, find_frame(review.store, review.model, request.path_params["id"]))


def _decide(review: Review, request: Request, asked: Asked, drawn: bytes | None) -> Response:
    item = _item(review, request)
    if not asked.sure and (odd := doubts(item.frame, asked.verdict, drawn)):
        return JSONResponse({"odd": odd}, 422)
    try:
        decided = accept(
            review.store,
            review.model,
            item.key.id,
            asked.verdict,
            drawn if asked.verdict == "NG" else None,
            asked.by or review.by,
            asked.seen,
            classes if len(classes := classes_of(item.frame)) > 1 else (),
        )
    except Conflict:
        now = _item(review, request)
        who = now.decision and now.decision.by
        told = f"{who or 'Somebody'} has decided meanwhile: {now.state}."
        return JSONResponse({"error": told, "frame": _row(now)}, 409)
    return JSONResponse({"frame": _row(decided)})


def _row(item: Item) -> dict[str, Any]:
    frame, decision = item.frame, item.decision
    drawn = decode_mask(base64.b64decode(frame.prediction["mask_png"]), numbered=True)
    return {
        "id": frame.id,
        "taken": frame.taken,
        "called": frame.prediction["verdict"],
        "score": frame.prediction["score"],
        "threshold": frame.threshold,
        "why": f"labelled {frame.labelled}" if frame.labelled else WHY.get(frame.reason, "in doubt"),
        "worth": frame.worth,
        "version": frame.version,
        "classes": classes_of(frame),
        "regions": [region["bbox"] for region in frame.prediction["regions"]],
        "size": [drawn.shape[1], drawn.shape[0]],
        "state": item.state,
        "by": decision.by if decision and item.decided else "",
        "seen": item.version,
    }
