"""Bodies over HTTP that are too large, too many or do not come."""

import asyncio
import json
from typing import Any

import pytest
import requests
from endpoints import PREDICT, ask_app, error_of, plate, post

from defectline.components.serve.model import DefectModel
from defectline.components.serve.protocol.body import Limits
from defectline.components.serve.protocol.rest import make_app

PNG = plate()


@pytest.mark.parametrize("path", [PREDICT, "/v2/models/plates/infer"])
@pytest.mark.parametrize("how", ["with its length", "in chunks"])
def test_a_body_that_is_too_large(served, path, how):
    data = bytes(12_000_000)
    body = data if how == "with its length" else iter([data[:2_000_000]] * 6)
    response = requests.post(
        served.url + path, data=body, headers={"content-type": "application/octet-stream"}, timeout=30
    )
    assert response.status_code == 413
    assert "at most 4 MB" in error_of(response)["message"]


def test_compressed_bodies_are_refused(served):
    response = post(served.url + PREDICT, PNG, "image/png", headers={"content-encoding": "gzip"})
    assert response.status_code == 415


def test_a_body_that_does_not_come(model):
    served = DefectModel("plates", model)
    served.load()
    app = make_app(served, Limits(1000, body_s=0.05))
    coming = iter([{"type": "http.request", "body": b"a", "more_body": True}])

    async def receive() -> dict[str, Any]:
        last = {"type": "http.request", "body": b"", "more_body": False}
        return next(coming, None) or await asyncio.sleep(0.2, last)

    sent = asyncio.run(ask_app(app, receive))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_timeout"


def test_bodies_that_do_not_come_to_their_end_fill_no_memory(model):
    """Two of 900 bytes fit into the room of two of 1000; their senders go away in the end. A small one has
    room all the while."""
    served = DefectModel("plates", model)
    served.load()
    app = make_app(served, Limits(1000))

    async def scenario() -> list[int]:
        gone, statuses = asyncio.Event(), []

        async def ask(more: bool, size: int = 900) -> list[Any]:
            parts = iter([{"type": "http.request", "body": bytes(size), "more_body": more}])

            async def receive() -> dict[str, Any]:
                if (part := next(parts, None)) is not None:
                    return part
                await gone.wait()
                return {"type": "http.disconnect"}

            return await ask_app(app, receive)

        slow = [asyncio.create_task(ask(True)) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await ask(False)
        assert json.loads(refused[1]["body"])["error"]["code"] == "overloaded"
        statuses += [refused[0]["status"], (await ask(False, 10))[0]["status"]]
        gone.set()
        await asyncio.gather(*slow)
        statuses += [(await ask(False))[0]["status"] for _ in range(3)]
        return statuses

    # Zeros are no picture.
    assert asyncio.run(scenario()) == [503, 400, 400, 400, 400]
