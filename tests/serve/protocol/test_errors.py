"""Errors: one form over every protocol, and nothing of the server's inside."""

import asyncio
import json
from typing import Any

import grpc
import numpy as np
from endpoints import ask_app, plate

from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol.body import Limits
from defectline.components.serve.protocol.errors import ERROR_CODES, ApiError
from defectline.components.serve.protocol.rest import make_app

PNG = plate()


def test_every_refusal_is_the_same_thing_over_http_and_grpc():
    for code in ERROR_CODES:
        refusal = ApiError(code, "")
        assert grpc.StatusCode[refusal.grpc]
        assert (refusal.http >= 500) == (refusal.grpc in ("INTERNAL", "UNAVAILABLE"))


def test_a_fault_of_the_server_tells_nothing_of_it(model):
    served = DefectModel("plates", model)
    served.load()

    def broken(image: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret at /etc/passwd")

    served.loaded.network.maps_of = broken  # type: ignore[union-attr, method-assign]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": PNG}

    sent = asyncio.run(ask_app(make_app(served, Limits(10**7)), receive))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal"
    assert b"secret" not in sent[1]["body"]
