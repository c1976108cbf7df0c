"""What routes of a cluster lead to: answers a bundle's golden pictures for whichever version is live."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from defectline.components.common.bundle import Bundle


class Endpoint:
    """`live` is the version that serves each model; tests and the controller set it.

    `shares` gives another version of a model so many percent of the requests. `by_host` is the version
    behind an address of its own: the endpoint is also the proxy that leads there. The next `lost` requests
    find no route. `spoiled` versions of a model get every verdict wrong. `changes` replaces fields of every
    prediction. `asked` holds model and version of every picture that was answered.
    """

    def __init__(self) -> None:
        self.live: dict[str, str] = {}
        self.shares: dict[str, tuple[str, int]] = {}
        self.by_host: dict[str, str] = {}
        self.lost = 0
        self.spoiled: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.changes: dict[str, Any] = {}
        self.hosts: list[str] = []
        self._pictures: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.url = ""

    def add(self, folder: Path, bundle: Bundle) -> None:
        """Make the endpoint able to serve the bundle in `folder`."""
        for golden in bundle.golden:
            mask = (folder / "golden" / golden.mask_file).read_bytes()
            self._pictures[bundle.version, (folder / "golden" / golden.file).read_bytes()] = {
                "verdict": golden.verdict,
                "score": golden.score,
                "mask_png": base64.b64encode(mask).decode(),
                "model_version": bundle.version,
            }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve on a free port of loopback until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        if self.lost > 0:
            self.lost -= 1
            return 404, {"error": "no route"}
        model = path.split("/")[3].removesuffix(":predict")
        version = self.by_host.get(host) or self.live.get(model)
        if version is None:
            return 404, {"error": "no such model"}
        if path.endswith("/ready"):
            return 200, {"ready": True}
        if host not in self.by_host and model in self.shares:
            other, percent = self.shares[model]
            # Every 100 requests in a row, so many percent of them.
            version = other if len(self.asked) * 37 % 100 < percent else version
        self.asked.append((model, version))
        unknown = {"verdict": "OK", "score": 0.0, "mask_png": "", "model_version": version}
        prediction = self._pictures.get((version, picture), unknown) | self.changes
        if (model, version) in self.spoiled:
            prediction["verdict"] = "OK" if prediction["verdict"] == "NG" else "NG"
        return 200, {"predictions": [prediction]}


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: in two, each answer waits for a delayed acknowledgement

    def _serve(self) -> None:
        picture = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.endpoint.hosts.append(self.headers.get("Host", ""))
        # To a proxy, the path is the whole address.
        address = urlsplit(self.path)
        host = address.netloc or self.headers.get("Host", "")
        status, body = self.endpoint.answer(host, address.path, picture)
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""
