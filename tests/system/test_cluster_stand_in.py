"""The stand-in of the API server answers recorded requests as the real one did."""

import json
import os
from typing import Any

import pytest
import requests
from cluster.api import TOKEN, ApiServer
from kubernetes import client, config
from paths import SHARED

FIXTURES = SHARED / "data/kserve/fixtures"
# In the order of their resource versions: each needs what those before it left behind.
ORDER = [
    "crd_missing_404",
    "get_404",
    "create_201",
    "create_409_exists",
    "create_201_warn_unknown_field",
    "create_400_strict_unknown_field",
    "create_400_namespace_mismatch",
    "create_422_canary_model_name",
    "get_200",
    "get_401",
    "get_403",
    "patch_200_spec",
    "patch_200_noop",
    "patch_409_stale_rv",
    "patch_415_strategic",
    "patch_422_traffic",
    "patch_status_200",
    "patch_200_canary_null",
    "list_200",
    "delete_200",
]
VOLATILE = ("uid", "creationTimestamp", "managedFields")


def essential(body: Any) -> Any:
    """The body without what differs from server to server."""
    if isinstance(body, list):
        return [essential(item) for item in body]
    if isinstance(body, dict):
        return {key: essential(value) for key, value in body.items() if key not in VOLATILE}
    return body


REAL = "DEFECTLINE_TEST_KUBECONFIG"
"""Names the kubeconfig of a real cluster with KServe and an empty namespace vision, if one is at hand. Not
KUBECONFIG: no test may write to a cluster that is in use."""


if REAL in os.environ:

    def test_a_real_cluster_answers_the_recorded_requests_so() -> None:
        settings = client.Configuration()
        config.load_kube_config(config_file=os.environ[REAL], client_configuration=settings)
        api = client.ApiClient(settings)
        for name in [name for name in ORDER if name not in ("get_401", "get_403")]:
            recorded = json.loads((FIXTURES / f"{name}.json").read_text())
            request = recorded["request"]
            headers = {"Content-Type": request["content_type"], "Accept": "application/json"}
            api.update_params_for_auth(headers, [], ["BearerToken"])
            answer = api.rest_client.pool_manager.request(
                request["method"],
                settings.host + request["path"],
                body=None if request["body"] is None else json.dumps(request["body"]),
                headers=headers,
            )
            assert answer.status == recorded["status"], (name, answer.data)
            if answer.status >= 400 and isinstance(recorded["body"], dict):
                assert answer.json()["reason"] == recorded["body"]["reason"], name


@pytest.mark.skipif(not FIXTURES.exists(), reason="the recorded answers are not at hand")
def test_every_recorded_request_is_answered_alike() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in FIXTURES.glob("*.json"))
    api = ApiServer(resource_version=217)
    with api.running(), requests.Session() as session:
        for name in ORDER:
            recorded = json.loads((FIXTURES / f"{name}.json").read_text())
            request = recorded["request"]
            api.denied = {("get", "inferenceservices")} if name == "get_403" else set()
            answer = session.request(
                request["method"],
                api.url + request["path"],
                data=None if request["body"] is None else json.dumps(request["body"]),
                headers={
                    "Content-Type": request["content_type"],
                    "Authorization": f"Bearer {'wrong' if name == 'get_401' else TOKEN}",
                },
                timeout=30,
            )
            assert answer.status_code == recorded["status"], (name, answer.text)
            for header, value in recorded["headers"].items():
                assert answer.headers[header] == value, name
            text = answer.headers["Content-Type"].startswith("text/")
            body = answer.text if text else answer.json()
            assert essential(body) == essential(recorded["body"]), name
