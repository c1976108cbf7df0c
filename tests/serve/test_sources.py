"""Where bundles come from: a folder, or the champion of a store."""

import shutil

import pytest
from endpoints import other_version, publish_champion

from defectline.components.common.bundle import read_bundle
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.serve.sources import Champion, Folder, fetch_champion


def test_a_folder_has_another_state_once_another_bundle_is_sealed_there(model, tmp_path):
    folder = tmp_path / "model"
    source = Folder(folder)
    assert source.state() == ""
    shutil.copytree(model, folder)
    first = source.state()
    assert first
    assert source.fetch() == folder
    (folder / "SHA256SUMS").unlink()
    shutil.rmtree(folder)
    other_version(model, folder, "v20990101-000000-other")
    assert source.state() not in ("", first)


def test_the_champion_of_a_store_is_followed(judged, tmp_path):
    first, second = judged.bundle.version, "v20990101-000000-second"
    other = other_version(judged.folder, tmp_path / "second", second)
    source = Champion(str(tmp_path / "store"), "plates")
    assert source.state() == ""
    with pytest.raises(SettingsError, match="no model plates to serve"):
        source.fetch()
    publish_champion(judged.folder, first, tmp_path / "store")
    assert source.state() == first
    assert source.fetch() == tmp_path / f"store/models/plates/{first}"
    publish_champion(other, second, tmp_path / "store")
    assert source.state() == second
    assert source.fetch() == tmp_path / f"store/models/plates/{second}"


def test_the_champion_is_served_from_a_folder_store_as_it_is(judged, tmp_path):
    version = judged.bundle.version
    publish_champion(judged.folder, version, tmp_path / "store")
    folder, found = fetch_champion(str(tmp_path / "store"), "plates")
    assert (folder, found) == (tmp_path / f"store/models/plates/{version}", version)
    (folder / "onnx/model.onnx").write_text("changed")
    with pytest.raises(BundleError, match="is not what was sealed"):
        fetch_champion(str(tmp_path / "store"), "plates")
    with pytest.raises(SettingsError, match="no model others to serve"):
        fetch_champion(str(tmp_path / "store"), "others")


def test_the_champion_is_fetched_from_a_bucket_once(judged, tmp_path, s3_server, monkeypatch):
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bucket, version = f"s3://{s3_server.new_bucket()}", judged.bundle.version
    publish_champion(judged.folder, version, bucket)
    folder, found = fetch_champion(bucket, "plates")
    assert found == version
    assert read_bundle(folder) == judged.bundle
    before = (folder / "bundle.json").stat().st_mtime_ns
    assert fetch_champion(bucket, "plates")[0] == folder
    assert (folder / "bundle.json").stat().st_mtime_ns == before
    # Whatever happened to the copy, it is replaced by what the store holds.
    (folder / "openvino/model.bin").write_bytes(b"damaged")
    (folder / "more.txt").write_text("not of the bundle")
    assert read_bundle(fetch_champion(bucket, "plates")[0]) == judged.bundle
