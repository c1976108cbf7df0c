"""Google Cloud Storage alone."""

from pathlib import Path

import pytest
from buckets import Between, keys

from defectline.components.common.errors import StoreError
from defectline.components.common.storage import Storage, open_storage


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
