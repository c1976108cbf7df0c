"""Real predictors in the place of pods: one for each InferenceService, as its ServingRuntime says."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from servers import free_port

from cluster.api import ApiServer
from cluster.endpoint import Endpoint
from cluster.world import NAMESPACE
from defectline.components.common.storage import Storage

Launch = Callable[[str, Path, int, list[str]], None]
"""Starts an image on a model's folder, which replaces /mnt/models, at a port, with arguments."""


class Pods(Endpoint):
    """An endpoint whose answers come from predictors that `launch` starts when they are first asked.

    They serve what `store` holds; `folder` is for copies of it.
    """

    def __init__(self, api: ApiServer, store: Storage, folder: Path, launch: Launch):
        super().__init__()
        self.api, self.store, self.folder, self.launch = api, store, folder, launch
        self.urls: dict[str, str] = {}
        """By service."""
        self._starting = threading.Lock()

    def answer(self, host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        name = path.partition("?")[0].split("/")[3].removesuffix(":predict")
        if name not in self.live:
            return 404, {"error": "no such model"}
        with self._starting:
            url = self.urls.get(name) or self._start(name)
        method, sent = ("POST", {"Content-Type": "image/png"}) if picture else ("GET", {})
        try:
            answered = requests.request(method, url + path, data=picture, headers=sent, timeout=60)
        except requests.ConnectionError:
            return 503, {"error": "no pod is ready"}
        return answered.status_code, answered.json()

    def _start(self, name: str) -> str:
        service = self.api.find("inferenceservices", NAMESPACE, name)
        assert service is not None
        model = service["spec"]["predictor"]["model"]
        runtime = self.api.find("servingruntimes", NAMESPACE, model["runtime"])
        assert runtime is not None
        [container] = runtime["spec"]["containers"]
        models, port = self.folder / name, free_port()
        self.store.download_folder(model["storageUri"].removeprefix(f"{self.store.uri}/").rstrip("/"), models)
        arguments = [argument.replace("{{.Name}}", name) for argument in container["args"]]
        arguments[arguments.index("--http_port=8080")] = f"--http_port={port}"
        self.launch(container["image"], models, port, arguments)
        self.urls[name] = f"http://127.0.0.1:{port}"
        return self.urls[name]
