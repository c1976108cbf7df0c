"""Deploying on this machine: a real predictor is asked, and the champion changes only if it answers well."""

import json
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from bundles import make_bundle
from commands import defectline
from kfp import dsl
from networks import Judged, judge_model

from defectline.components.common import checksums
from defectline.components.common.bundle import Bundle, copy_served, publish_folder, read_bundle
from defectline.components.common.errors import BundleError, Conflict, ServingError, StoreError
from defectline.components.common.images.imaging import encode_mask
from defectline.components.common.records import (
    ChampionRecord,
    GateRecord,
    Outcome,
    read_champion,
    read_gate,
    read_outcome,
    write_gate,
    write_outcome,
)
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy import component, local
from defectline.components.deploy.local import deploy_local, predictor
from defectline.components.deploy.rollback import roll_back
from defectline.components.deploy.status import read_status
from defectline.components.deploy.step import deploy, find_champion, finish


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


@pytest.fixture
def store(tmp_path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def nothing_left():
    """No test may leave a predictor behind."""
    yield
    commands = [process.cmdline() for process in psutil.Process().children(recursive=True)]
    assert [command for command in commands if "defectline.components.serve" in command] == []


def _reseal(folder: Path, **fields: object) -> Bundle:
    """Change bundle.json, as somebody would who can also write SHA256SUMS."""
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | fields))
    checksums.seal(folder)
    return read_bundle(folder)


def _former(store: Storage) -> ChampionRecord:
    """A champion that serves already."""
    former = ChampionRecord(version="v20250101-000000-former", run="zero")
    store.write("models/defects/current.json", former.model_dump_json().encode())
    return former


# Success


def test_the_component_deploys_and_ends_the_story(judged, store, tmp_path):
    _former(store)
    root = str(tmp_path / "store")
    artifact = dsl.Model(uri=str(judged.folder))
    component.deploy(
        store=root, run="one", model_name="defects", kserve={}, settings_key="s", bundle=artifact
    )
    version = judged.bundle.version
    former = "v20250101-000000-former"
    assert read_champion(store, "defects") == ChampionRecord(version=version, run="one", previous=former)
    assert component.find_champion(store=root, model_name="defects", kserve={}) == version
    assert read_outcome(store, "one").state == "deployed"
    gated = read_gate(store, "defects")
    assert (gated.run, gated.snapshot, gated.settings_key) == ("one", judged.snapshot, "s")
    # What was published is the whole bundle.
    assert read_bundle(tmp_path / f"store/models/defects/{version}") == judged.bundle


def test_before_the_first_deployment_there_is_no_champion(tmp_path):
    assert find_champion(str(tmp_path / "store"), "defects", {}) == ""


# Refusals: the former champion stays


def test_another_answer_than_the_sealed_one(judged, store, tmp_path):
    former = _former(store)
    folder = tmp_path / "bundle"
    shutil.copytree(judged.folder, folder)
    mask = folder / "golden" / judged.bundle.golden[-1].mask_file
    mask.write_bytes(encode_mask(np.zeros((64, 64), np.uint8)))
    checksums.seal(folder)
    bundle = read_bundle(folder)
    with pytest.raises(ServingError, match="does not give the answer of the bundle") as caught:
        deploy_local(folder, bundle, store, "defects", "run")
    assert "a mask with IoU" in caught.value.expected
    assert read_champion(store, "defects") == former


def test_a_predictor_that_cannot_start_says_why(store, tmp_path):
    """The bundle is sealed, but no OpenVINO can load its network."""
    former = _former(store)
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(ServingError, match="ended before it was ready") as caught:
        deploy_local(tmp_path / "bundle", bundle, store, "defects", "run")
    assert "openvino/model.xml cannot be loaded" in caught.value.got
    assert read_champion(store, "defects") == former


def test_a_changed_bundle_is_not_even_published(judged, tmp_path, capsys):
    folder, store = tmp_path / "bundle", tmp_path / "store"
    shutil.copytree(judged.folder, folder)
    with (folder / "onnx/model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SystemExit) as caught:
        deploy(folder, str(store), {}, "run")
    assert caught.value.code == 2
    assert "onnx/model.onnx is not what was sealed" in capsys.readouterr().out
    assert not store.exists()


def test_a_name_that_is_taken_by_other_content(judged, store):
    version = judged.bundle.version
    store.write(f"models/defects/{version}/{checksums.NAME}", b"0000  other\n")
    with pytest.raises(StoreError, match="holds another model under this version"):
        deploy_local(judged.folder, judged.bundle, store, "defects", "run")
    assert read_champion(store, "defects") is None


# Publishing


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


# Two at once


def test_of_two_deployments_at_once_one_wins(judged, store, tmp_path, monkeypatch):
    """Both have seen the former champion before either has finished."""
    other = tmp_path / "other"
    shutil.copytree(judged.folder, other)
    versions = {"a": judged.bundle, "b": _reseal(other, version="v20260101-000000-bbbbbb")}
    folders = {"a": judged.folder, "b": other}
    both_asked = threading.Barrier(2, timeout=120)
    ask = local.ask

    def ask_and_wait(*arguments: object) -> None:
        ask(*arguments)
        both_asked.wait()

    monkeypatch.setattr(local, "ask", ask_and_wait)
    ended: dict[str, Exception | None] = {}

    def run(key: str) -> None:
        try:
            deploy_local(folders[key], versions[key], store, "defects", key)
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


# Rolling back


def test_back_to_the_version_before_and_what_serves_then(judged, store, tmp_path):
    root, version = str(tmp_path / "store"), judged.bundle.version
    publish_folder(judged.folder, store, f"models/defects/{version}")
    later = ChampionRecord(version="v20990101-000000-bbbbbb", run="two", previous=version)
    store.write("models/defects/current.json", later.model_dump_json().encode())
    assert roll_back(root, "defects") == version
    assert read_champion(store, "defects") == ChampionRecord(
        version=version, run="rollback", previous=later.version
    )
    write_outcome(store, "two", Outcome(state="refused", reason="max_escape"))
    write_gate(store, "defects", GateRecord(run="two", snapshot="s", settings_key="{}"))
    shown = defectline("status", "--store", root)
    assert shown.returncode == 0, shown.stderr
    for text in (f"version    {version}", f"before     {later.version}", "two: refused, max_escape"):
        assert text in shown.stdout
    # The one that is to come back is gone.
    with pytest.raises(BundleError, match=f"There is no bundle {later.version}") as caught:
        roll_back(root, "defects")
    assert version in caught.value.expected
    (tmp_path / f"store/models/defects/{version}/bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="is not what was sealed"):
        roll_back(root, "defects", to=version)
    assert read_champion(store, "defects").version == version


def test_nothing_to_go_back_to(store, tmp_path):
    root = str(tmp_path / "store")
    with pytest.raises(ServingError, match="no version to go back to") as caught:
        roll_back(root, "defects")
    assert caught.value.got == "no champion"
    _former(store)
    with pytest.raises(ServingError, match="no version to go back to") as caught:
        roll_back(root, "defects")
    assert caught.value.got == "nothing before v20250101-000000-former"
    assert "defectline models" in caught.value.fix
    assert read_status(root, "others").version == ""


# The predictor's process


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


# How runs end


def test_finish_writes_the_outcome_that_no_step_could(store, tmp_path):
    root = str(tmp_path / "store")
    finish(root, "lost", "FAILED", "")
    assert read_outcome(store, "lost") == Outcome(
        state="failed", reason="the pipeline ended as FAILED without an outcome"
    )
    finish(root, "said", "FAILED", "task train failed")
    assert read_outcome(store, "said").reason == "task train failed"
    refused = Outcome(state="refused", reason="max_escape")
    write_outcome(store, "ended", refused)
    finish(root, "ended", "SUCCEEDED", "")
    assert read_outcome(store, "ended") == refused
