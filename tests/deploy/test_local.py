"""Deploying on this machine: a real predictor is asked, and the champion changes only if it answers well."""

import json
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import requests
from bundles import make_bundle, put_champion

from defectline.components.common.bundle import Bundle, copy_served, publish_folder, read_bundle
from defectline.components.common.errors import Conflict, ServingError, StoreError
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.records import ChampionRecord, read_champion
from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy import local
from defectline.components.deploy.local import Local, predictor


def _reseal(folder: Path, **fields: object) -> Bundle:
    """Change bundle.json, as one who can also write SHA256SUMS would."""
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | fields))
    checksums.seal(folder)
    return read_bundle(folder)


def test_another_answer_than_the_sealed_one(judged, store, tmp_path):
    previous = put_champion(store)
    folder = tmp_path / "bundle"
    shutil.copytree(judged.folder, folder)
    mask = folder / "golden" / judged.bundle.golden[-1].mask_file
    mask.write_bytes(encode_mask(np.zeros((64, 64), np.uint8)))
    checksums.seal(folder)
    bundle = read_bundle(folder)
    with pytest.raises(ServingError, match="does not give the answer of the bundle") as caught:
        Local(store, "defects").deploy(folder, bundle, "run")
    assert "a mask with IoU" in caught.value.expected
    assert read_champion(store, "defects") == previous


def test_a_predictor_that_cannot_start_says_why(store, tmp_path):
    """The bundle is sealed, but no OpenVINO can load its network."""
    previous = put_champion(store)
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(ServingError, match="ended before it was ready") as caught:
        Local(store, "defects").deploy(tmp_path / "bundle", bundle, "run")
    assert "openvino/model.xml cannot be loaded" in caught.value.got
    assert read_champion(store, "defects") == previous


def test_a_name_that_is_taken_by_other_content(judged, store):
    version = judged.bundle.version
    store.write(f"models/defects/{version}/{checksums.NAME}", b"0000  other\n")
    with pytest.raises(StoreError, match="holds another model under this version"):
        Local(store, "defects").deploy(judged.folder, judged.bundle, "run")
    assert read_champion(store, "defects") is None


class _Broken(FolderStorage):
    """Loses its connection at the third file."""

    uploads = 0

    def upload(self, path: Path, key: str) -> None:
        self.uploads += 1
        if self.uploads == 3:
            raise StoreError("lost", got="x", expected="y", fix="z")
        super().upload(path, key)


def test_a_half_uploaded_version_is_completed(judged, store, tmp_path):
    prefix = f"models/defects/{judged.bundle.version}"
    with pytest.raises(StoreError, match="lost"):
        publish_folder(judged.folder, _Broken(tmp_path / "store"), prefix)
    half = {found.key for found in store.list(prefix)}
    assert len(half) == 2
    assert f"{prefix}/{checksums.NAME}" not in half
    publish_folder(judged.folder, store, prefix)
    assert read_bundle(tmp_path / "store" / prefix) == judged.bundle
    # Once more does nothing.
    before = {found.key: found.version for found in store.list(prefix)}
    publish_folder(judged.folder, store, prefix)
    assert {found.key: found.version for found in store.list(prefix)} == before


def test_of_two_deployments_at_once_one_wins(judged, store, tmp_path, monkeypatch):
    """Both have seen the previous champion before either has finished."""
    other = tmp_path / "other"
    shutil.copytree(judged.folder, other)
    versions = {"a": judged.bundle, "b": _reseal(other, version="v20260101-000000-bbbbbb")}
    folders = {"a": judged.folder, "b": other}
    both_asked = threading.Barrier(2, timeout=120)
    check = local.check

    def check_and_wait(*arguments: object) -> None:
        check(*arguments)
        both_asked.wait()

    monkeypatch.setattr(local, "check", check_and_wait)
    ended: dict[str, Exception | None] = {}

    def run(key: str) -> None:
        try:
            Local(store, "defects").deploy(folders[key], versions[key], key)
            ended[key] = None
        except Exception as error:
            ended[key] = error

    threads = [threading.Thread(target=run, args=(key,)) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [key for key, error in ended.items() if error is None]
    (loser,) = [error for error in ended.values() if error is not None]
    assert isinstance(loser, Conflict)
    assert "another run deployed defects at the same time" in loser.what
    assert read_champion(store, "defects") == ChampionRecord(version=versions[winner].version, run=winner)


def test_the_predictor_ends_with_its_block_whatever_happens(judged, tmp_path):
    copy_served(judged.folder, tmp_path / "model")
    seen = []

    def interrupted() -> None:
        with predictor(tmp_path / "model", "defects") as url:
            assert requests.get(f"{url}/v1/models/defects", timeout=5).json()["ready"]
            seen.append(url)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    host, port = seen[0].removeprefix("http://").split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
