"""The public surface of the client: names that other programs rely on, and what their import costs."""

import inspect
import subprocess
import sys

import pytest

import defectline.client as client

NAMES = [
    "AsyncClient",
    "Client",
    "DefectlineError",
    "Prediction",
    "Refused",
    "Region",
    "ServingError",
    "SettingsError",
    "Unavailable",
]
PARAMETERS = ["url", "name", "timeout_s", "retries", "deadline_s", "headers", "token_file"]


def test_what_the_client_exports():
    assert client.__all__ == NAMES
    assert all(inspect.isclass(getattr(client, name)) for name in NAMES)


@pytest.mark.parametrize("kind", [client.Client, client.AsyncClient])
def test_how_both_clients_are_called(kind):
    assert list(inspect.signature(kind).parameters) == PARAMETERS
    assert list(inspect.signature(kind.inspect).parameters) == [
        "self",
        "image",
        "mask",
        "threshold",
        "request_id",
        "review",
    ]
    assert list(inspect.signature(kind.roi).parameters) == ["self", "version"]


def test_one_base_catches_every_error():
    for error in (client.Refused, client.Unavailable, client.SettingsError):
        assert issubclass(error, client.DefectlineError)
    assert issubclass(client.Refused, client.ServingError)
    assert issubclass(client.Unavailable, client.ServingError)


def test_credentials_are_not_in_the_repr():
    with client.Client("http://localhost", headers={"Authorization": "Bearer secret"}) as asking:
        assert "secret" not in repr(asking)
        assert "http://localhost" in repr(asking)


def test_the_import_needs_httpx_pydantic_and_the_plainest_of_common():
    code = "import sys, defectline.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"httpx", "pydantic"} <= loaded
    assert loaded.isdisjoint({"kserve", "openvino", "cv2", "numpy", "fastapi", "tensorflow", "kfp", "boto3"})
    ours = {name for name in loaded if name.startswith("defectline.") and not name.endswith("common")}
    assert ours == {
        "defectline.client",
        "defectline.client.client",
        "defectline.client.retry",
        "defectline.components",
        "defectline.components.common.errors",
        "defectline.components.common.files",
        "defectline.components.common.prediction",
    }


@pytest.mark.parametrize("missing", ["httpx", "pydantic"])
def test_without_its_packages_the_import_says_what_to_install(missing):
    code = f"import sys; sys.modules['{missing}'] = None; import defectline.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"defectline.client needs {missing}. Run `make setup`.")
