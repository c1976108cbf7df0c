"""The cluster as the suite uses it: objects as dicts, straight through the API."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

Json = dict[str, Any]
T = TypeVar("T")
OWNER = "defectline-e2e"
LABEL = "defectline.dev/e2e"
"""On every namespace and secret that the suite makes; its value is the suffix of one run of it."""
REST = {
    "Namespace": ("api/v1", "namespaces", False),
    "ServiceAccount": ("api/v1", "serviceaccounts", True),
    "Secret": ("api/v1", "secrets", True),
    "ConfigMap": ("api/v1", "configmaps", True),
    "Pod": ("api/v1", "pods", True),
    "Event": ("api/v1", "events", True),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies", True),
    "PodMonitor": ("apis/monitoring.coreos.com/v1", "podmonitors", True),
    "PrometheusRule": ("apis/monitoring.coreos.com/v1", "prometheusrules", True),
    "InferenceService": ("apis/serving.kserve.io/v1beta1", "inferenceservices", True),
    "Node": ("api/v1", "nodes", False),
}
"""Kind → path of the API, plural, and whether it lives in a namespace."""


class Refused(Exception):
    """The API server's answer to a request that it does not do, in one line."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def _message(error: ApiException) -> str:
    try:
        return json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


class Kube:
    def __init__(self, kubeconfig: str):
        settings = client.Configuration()
        config.load_kube_config(config_file=kubeconfig, client_configuration=settings)
        self._client = client.ApiClient(settings)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        timeout_s: float = 60,
        **query: str,
    ) -> Any:
        """The answer's JSON, or its text. Raises Refused."""
        try:
            answer = self._client.call_api(
                f"/{path}" + (f"?{urlencode(query)}" if query else ""),
                method,
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=timeout_s,
            )
        except ApiException as error:
            raise Refused(error.status, f"{method} /{path}: {error.status} {_message(error)}") from None
        text = answer.data.decode(errors="replace")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        api, plural, namespaced = REST[kind]
        place = f"namespaces/{namespace}/" if namespaced else ""
        return f"{api}/{place}{plural}" + (f"/{name}" if name else "")

    def apply(self, manifest: Json, dry: bool = False) -> Any:
        """Server-side apply, as `kubectl apply --server-side` does."""
        metadata = manifest["metadata"]
        query = {"fieldManager": OWNER, "force": "true"} | ({"dryRun": "All"} if dry else {})
        path = self.path(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        return self.request("PATCH", path, manifest, "application/apply-patch+yaml", **query)

    def find(self, kind: str, namespace: str, name: str) -> Json | None:
        try:
            return self.request("GET", self.path(kind, namespace, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str = "", **query: str) -> list[Json]:
        return self.request("GET", self.path(kind, namespace), **query)["items"]

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Also where it is gone already."""
        try:
            self.request("DELETE", self.path(kind, namespace, name))
        except Refused as error:
            if error.status != 404:
                raise

    def remove_namespace(self, name: str, timeout_s: float) -> None:
        """Delete it with all that is in it, and return once it is gone."""
        self.delete("Namespace", "", name)
        wait(lambda: self.find("Namespace", "", name) is None, timeout_s, f"namespace {name} goes away")

    def log(self, namespace: str, pod: str) -> str:
        try:
            return str(self.request("GET", f"{self.path('Pod', namespace, pod)}/log"))
        except Refused as error:
            return f"no log: {error}"

    def groups(self) -> set[str]:
        """The API groups that are installed."""
        return {group["name"] for group in self.request("GET", "apis")["groups"]}


def wait(look: Callable[[], T], timeout_s: float, what: str, every_s: float = 1.0) -> T:
    """What `look` gives once that is true. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(every_s)


def dump(kube: Kube, namespace: str) -> dict[str, str]:
    """What tells why something failed: file name → content, of pods, events, services and logs."""
    files: dict[str, str] = {}
    for kind in ("Pod", "Event", "InferenceService"):
        try:
            items = kube.list(kind, namespace)
        except Refused as error:
            files[f"{namespace}-{kind}.txt"] = str(error)
            continue
        files[f"{namespace}-{kind}.yaml"] = yaml.safe_dump(items)
        if kind == "Pod":
            for pod in items:
                name = pod["metadata"]["name"]
                files[f"{namespace}-{name}.log"] = kube.log(namespace, name)
    return files
