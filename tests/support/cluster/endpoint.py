"""The network of a cluster: its Services, and the gateway before them; it answers golden pictures.

As in a real one, the address of a Service reaches the pods of that Service alone. Only a request through the
gateway, with the Host of a route, is shared out by weight.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.loopback import Handler, served
from defectline.components.common.bundle import Bundle


class Endpoint:
    """`live` is the version that serves each model; tests and the controller set it.

    `routes` are the Hosts that the gateway, which is at `url`, knows: each leads to a model. Without any, all
    lead to the model that the path names. `services` are the Kubernetes Services by the names that resolve
    within the cluster (`defects-predictor.vision.svc`): each leads to `live` of a model. `by_host` is the
    version behind an address of its own. `shares` gives another version of a model so many percent of the
    requests that come through its routes.

    The endpoint is also the HTTP proxy of the tests, so that names need no DNS. Names of Services resolve
    only `inside` the cluster, those of `names` everywhere, no other anywhere: such a request is cut off.

    `of_gateway` is what the gateway answers by itself to a request with the Host of a route, for the model:
    a login, or that it does not get through to the pods; None where it hands the request on.

    The next `lost` requests find no route. `spoiled` versions of a model get every verdict wrong, `broken`
    ones answer 500. `changes` replaces fields of every prediction. `asked` holds model and version of every
    picture that was answered, `hosts` and `headers`, whose
    names are in small letters, what each request had.
    """

    def __init__(self) -> None:
        self.live: dict[str, str] = {}
        self.shares: dict[str, tuple[str, int]] = {}
        self.routes: dict[str, str] = {}
        self.services: dict[str, str] = {}
        self.by_host: dict[str, str] = {}
        self.names: set[str] = set()
        self.of_gateway: Callable[[str], tuple[int, dict[str, Any]] | None] = lambda model: None
        self.inside = False
        self.lost = 0
        self.spoiled: set[tuple[str, str]] = set()
        self.broken: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.changes: dict[str, Any] = {}
        self.hosts: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._pictures: dict[tuple[str, bytes], dict[str, Any]] = {}
        self._shared = 0
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
        with served(_Handler, endpoint=self) as self.url:
            yield

    def resolves(self, name: str) -> bool:
        return name in self.names or (self.inside and name.removesuffix(".cluster.local").endswith(".svc"))

    def serve(
        self, host: str, path: str, picture: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Answer a request to the gateway or a Service, which is noted."""
        self.hosts.append(host)
        self.headers.append({name.lower(): value for name, value in headers.items()})
        return self.answer(host.removesuffix(".cluster.local"), path, picture)

    def answer(self, host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        if self.lost > 0:
            self.lost -= 1
            return 404, {"error": "no route"}
        model = path.partition("?")[0].split("/")[3].removesuffix(":predict")
        if host in self.routes and (answer := self.of_gateway(model)):
            return answer
        version = self._version(host, model, path)
        if version is None:
            return 404, {"error": "no such model"}
        if (model, version) in self.broken:
            return 500, {"error": "internal error"}
        if path.endswith("/ready"):
            return 200, {"ready": True}
        self.asked.append((model, version))
        unknown = {"verdict": "OK", "score": 0.0, "mask_png": "", "model_version": version}
        prediction = self._pictures.get((version, picture), unknown) | self.changes
        if (model, version) in self.spoiled:
            prediction["verdict"] = "OK" if prediction["verdict"] == "NG" else "NG"
        return 200, {"predictions": [prediction]}

    def _version(self, host: str, model: str, path: str) -> str | None:
        """The version that gets a request, None where it leads nowhere."""
        if host in self.by_host:
            return self.by_host[host]
        if host in self.services:
            return self.live.get(self.services[host])
        if self.routes:
            model = self.routes.get(host, "")
        if model in self.shares:
            other, percent = self.shares[model]
            # Every 100 requests in a row, so many percent of them.
            self._shared += 1
            return other if self._shared * 37 % 100 < percent else self.live.get(model)
        return self.live.get(model)


class _Handler(Handler):
    endpoint: Endpoint

    def _serve(self) -> None:
        picture = self.body()
        # To a proxy, the path is the whole address.
        address = urlsplit(self.path)
        if address.hostname and not self.endpoint.resolves(address.hostname):
            self.close_connection = True
            return
        host = address.netloc or self.headers.get("Host", "")
        status, body = self.endpoint.serve(host, address.path, picture, self.headers)
        self.send(status, "application/json", json.dumps(body).encode())

    do_GET = do_POST = _serve
