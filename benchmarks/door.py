"""What a token costs a request.

    python benchmarks/door.py

Requests go through the door alone, around an app that does nothing: with ten tokens in the file, and without.
"""

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from starlette.types import Receive, Scope, Send

from defectline.components.serve.protocol.door import OPEN, Door, Rates, Tokens
from defectline.components.serve.protocol.rest import DoorMiddleware


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that answers nothing."""


async def seconds(door: Door, token: str, requests: int) -> float:
    """Of one request, in the quickest of ten rounds."""
    app = DoorMiddleware(nothing, door)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/models/defects:predict",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 40000),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8080"), (b"authorization", f"Bearer {token}".encode())],
    }
    rounds = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(requests):
            await app(scope, nothing, nothing)  # type: ignore[arg-type]
        rounds.append((time.perf_counter() - start) / requests)
    return min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000, help="Of each round.")
    options = parser.parse_args()
    tokens = [secrets.token_urlsafe(32) for _ in range(10)]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "tokens")
        file.write_text("\n".join(tokens))
        doors = {
            "open": OPEN,
            "token": Door(Tokens(file)),
            "token and rate": Door(Tokens(file), Rates(1e9)),
        }
        for name, door in doors.items():
            took = asyncio.run(seconds(door, tokens[-1], options.requests))
            print(f"{name:15} {1000 * took:.4f} ms a request")


if __name__ == "__main__":
    main()
