"""The few requests to Kubernetes' API that a TrainJob needs, with the account of the pod that asks.

Plain HTTP: the `kubernetes` package, of 30 MB, would do no more for six requests.
"""

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from defectline.components.common.errors import ServingError
from defectline.components.train.cluster.trainjob import GROUP, INDEX_LABEL, JOBSET_LABEL, PLURAL, VERSION

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 30.0


class Away(Exception):
    """The API does not answer, or only that it is busy: it may a moment later."""


class Refused(Exception):
    """An answer that will not change: its status, and what the server says."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Api:
    """TrainJobs and their pods in one namespace. Every request raises Away or Refused."""

    def __init__(self, url: str, namespace: str, token: Path | None = None, ca: Path | None = None):
        self.url, self.namespace, self._token = url, namespace, token
        self._tls = ssl.create_default_context(cafile=ca) if ca else None

    @classmethod
    def of_this_pod(cls, folder: Path = ACCOUNT) -> Self:
        """Raises ServingError outside of a cluster."""
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
        if not host or not (folder / "namespace").exists():
            raise ServingError(
                "Training on several nodes needs a cluster.",
                got="no account of Kubernetes in this process",
                expected="a pod of a pipeline that was compiled with --nodes",
                fix="Submit the pipeline to Kubeflow Pipelines, or compile it with --nodes 1.",
            )
        namespace = (folder / "namespace").read_text().strip()
        host = f"[{host}]" if ":" in host else host
        return cls(f"https://{host}:{port}", namespace, folder / "token", folder / "ca.crt")

    def create(self, manifest: dict[str, Any]) -> None:
        self._json("POST", self._jobs(), manifest)

    def job(self, name: str) -> dict[str, Any] | None:
        """None where there is no such TrainJob."""
        try:
            return self._json("GET", self._jobs(name))
        except Refused as refused:
            if refused.status == 404 and "page not found" not in refused.message:
                return None
            raise

    def delete(self, name: str, timeout_s: float = TIMEOUT_S) -> None:
        """Nothing where it is gone already. Its pods go with it."""
        try:
            self._json("DELETE", self._jobs(name), {"propagationPolicy": "Background"}, timeout_s)
        except Refused as refused:
            if refused.status != 404:
                raise

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Those of a TrainJob, by the index of their process."""
        query = urlencode({"labelSelector": f"{JOBSET_LABEL}={name}"})
        found = self._json("GET", f"/api/v1/namespaces/{self.namespace}/pods?{query}")["items"]
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"].get(INDEX_LABEL, 0)))

    def log(self, pod: str, container: str, **query: str) -> str:
        """Empty where the container has not started."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            asked = urlencode({"container": container, "timestamps": "true", **query})
            return self._request("GET", f"{path}?{asked}").decode(errors="replace")
        except Refused as refused:
            if refused.status in (400, 404):
                return ""
            raise

    def _jobs(self, name: str = "") -> str:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}"
        return f"{path}/{name}" if name else path

    def _json(self, method: str, path: str, body: Any = None, timeout_s: float = TIMEOUT_S) -> Any:
        return json.loads(self._request(method, path, body, timeout_s))

    def _request(self, method: str, path: str, body: Any = None, timeout_s: float = TIMEOUT_S) -> bytes:
        headers = {"Accept": "application/json, */*"}
        if self._token:
            # Kubernetes renews the file.
            headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
        data = None if body is None else json.dumps(body).encode()
        if data:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=self._tls) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code in (429, 500, 502, 503, 504):
                raise Away(f"{error.code}: {_message(said)}") from error
            raise Refused(error.code, _message(said)) from error
        except (OSError, ValueError) as error:
            raise Away(str(error)) from error


def _message(said: str) -> str:
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(said.split())[:200]
