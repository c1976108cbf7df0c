"""Google Cloud Storage alone."""

from pathlib import Path

import pytest
from buckets import Between, keys
from google.api_core import exceptions as api

from defectline.components.common.errors import StoreError, Unreadable
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.gcs import GCSStorage


def test_gcs_without_credentials(gcs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(StoreError, match="credentials") as caught:
        keys(open_storage(gcs))
    assert "gcloud auth" in caught.value.fix
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(StoreError, match=r"absent\.json"):
        keys(open_storage(gcs))


@pytest.mark.parametrize("between", ["gcs"], indirect=True)
def test_gcs_names_the_generation_that_it_reads(between: tuple[Between, Storage]):
    relay, store = between
    store.write("key", b"before")
    (listed,) = store.list()
    store.read("key", listed.version)
    assert f"generation={listed.version}" in relay.paths[-1]


@pytest.mark.parametrize("between", ["gcs"], indirect=True)
def test_gcs_names_the_project_that_pays(between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch):
    relay, store = between
    store.write("key", b"x")
    assert not any("userProject" in path for path in relay.paths)
    relay.paths.clear()
    monkeypatch.setenv("DEFECTLINE_GCS_USER_PROJECT", "plates-1")
    assert store.read("key") == b"x"
    assert keys(store) == ["key"]
    assert relay.paths
    assert all("userProject=plates-1" in path for path in relay.paths)


@pytest.mark.parametrize(
    ("error", "kind", "fix"),
    [
        (
            api.BadRequest("Bucket is a requester pays bucket but no user project provided."),
            StoreError,
            "PROJECT",
        ),
        (
            api.BadRequest("The target object is encrypted by a customer-supplied encryption key."),
            Unreadable,
            "own",
        ),
        (api.Forbidden("Permission denied on Cloud KMS key."), Unreadable, "CryptoKey"),
        (api.Forbidden("x does not have storage.objects.get access."), Unreadable, "role"),
    ],
)
def test_gcs_an_object_that_is_not_given_out(gcs: str, error: Exception, kind: type, fix: str):
    """The emulator has neither payers nor encryption: its answers are raised in their place."""
    store = open_storage(gcs)
    assert isinstance(store, GCSStorage)
    with pytest.raises(StoreError) as caught, store._explained("read", "key"):
        raise error
    assert type(caught.value) is kind
    assert fix in caught.value.fix
