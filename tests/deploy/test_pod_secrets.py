"""Secrets that pods name; what `doctor` makes of it is tested in tests/pipeline/test_doctor.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.api import ApiServer

from defectline.components.common.errors import SettingsError
from defectline.components.deploy.pod_secrets import secrets_of_endpoint, secrets_of_steps

S3_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
PLACE = {"serving.kserve.io/s3-endpoint": "minio:9000", "serving.kserve.io/s3-usehttps": "0"}
KSERVE = {"namespace": "vision", "image": "serve:1"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    api = ApiServer()
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield api


def test_only_what_is_needed_is_looked_at(api: ApiServer):
    api.put("secrets", "kubeflow", "keys", {"data": {**S3_KEYS, "more": ""}})
    assert list(secrets_of_steps({"keys": S3_KEYS.keys()}, "kubeflow")) == []
    [missing] = secrets_of_steps({"keys": {"key.json"}}, "kubeflow")
    assert "lacks key.json" in missing.what
    [missing] = secrets_of_steps({"keys": set()}, "another")
    assert "missing in namespace another" in missing.what
    api.denied = {("get", "secrets")}
    [unseen] = secrets_of_steps({"keys": set()}, "kubeflow")
    assert not unseen.looked


def test_served_pods_ask_where_the_steps_do(api: ApiServer, monkeypatch: pytest.MonkeyPatch):
    # What this machine calls the server matters to none of the pods.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9000")
    api.put("serviceaccounts", "vision", "default", {"secrets": [{"name": "keys"}]})
    api.put("secrets", "vision", "keys", {"data": S3_KEYS})
    assert list(secrets_of_endpoint(KSERVE, "s3://a/b", "")) == []
    [wrong] = secrets_of_endpoint(KSERVE, "s3://a/b", "http://minio:9000")
    assert "http://minio:9000" in wrong.expected
    api.put("secrets", "vision", "keys", {"data": S3_KEYS, "metadata": {"annotations": PLACE}})
    assert list(secrets_of_endpoint(KSERVE, "s3://a/b", "http://minio:9000")) == []


def test_settings_that_are_none(api: ApiServer):
    with pytest.raises(SettingsError):
        list(secrets_of_endpoint({"namespace": "vision"}, "s3://a/b", ""))
