"""Requests that the API server hands on to the pods of a Service, from wherever the API server is reached.

Only the API server's address and the rights of this account are needed: no name of a gateway, no DNS.
"""

import json

import httpx
import urllib3
from kubernetes import client

from defectline.components.common.errors import ServingError

DROPPED = {"host", "connection", "accept-encoding", "content-length"}
"""Headers that are about the connection to the API server."""


class ServiceProxy(httpx.BaseTransport):
    """Sends requests by the API client, with its address, certificates and credentials.

    Raises ServingError where this account may not do so.
    """

    def __init__(self, api: client.ApiClient):
        self._api = api

    def url(self, namespace: str, service: str, port: int = 80) -> str:
        """What stands before the path of a request to the pods of `service`."""
        host = self._api.configuration.host.rstrip("/")
        return f"{host}/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {key: value for key, value in request.headers.items() if key not in DROPPED}
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        timeouts = request.extensions["timeout"]
        try:
            answer = self._api.rest_client.pool_manager.request(
                request.method,
                str(request.url),
                body=request.read() or None,
                headers=headers,
                timeout=urllib3.Timeout(connect=timeouts["connect"], read=timeouts["read"]),
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        if answer.status in (401, 403) and (message := _refusal(answer.data)):
            raise ServingError(
                "The cluster refuses to ask the endpoint through the API server.",
                got=f"{answer.status} {message}",
                expected="the rights to get and create services/proxy in the namespace",
                fix="Apply manifests/base/role.yaml there; or set `url` and `host_header` (--url,"
                " --host-header) to a gateway that this machine reaches.",
            )
        return httpx.Response(answer.status, content=answer.data, request=request)


def _refusal(body: bytes) -> str:
    """The message of the API server's own answer; "" where it is the endpoint's."""
    try:
        status = json.loads(body)
        return str(status["message"]) if status["kind"] == "Status" else ""
    except (ValueError, TypeError, KeyError):
        return ""
