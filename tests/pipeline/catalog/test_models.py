"""`defectline models`: the versions of a store, and what became of them."""

import json
from pathlib import Path

from bundles import make_bundle
from cluster.api import ApiServer
from commands import call, contents, defectline
from stores import NAME

from defectline.components.common.bundle import publish_folder
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy.kserve.manifests import inference_service
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.pipeline.catalog.models import read_models
from defectline.pipeline.catalog.runs import read_runs


def test_each_version_has_its_state_and_its_run(factory):
    runs = read_runs(factory.store, print)
    assert [(run.id, run.state) for run in runs] == [
        ("run-1", "deployed"),
        ("run-2", "deployed"),
        ("run-3", "refused"),
    ]
    models = read_models(factory.store, runs, print)
    assert [(m.version, m.state, m.snapshot, m.run) for m in models] == [
        (one.bundle.version, state, one.snapshot, one.run)
        for one, state in zip(factory.runs, ("published", "champion", "refused"), strict=True)
    ]
    assert [m.name for m in models] == [NAME] * 3
    assert models[2].metrics["escape"] == 1.0


def test_the_command_prints_a_table_and_json_and_changes_nothing(factory):
    before = contents(factory.store.root)
    done = call("models", "--store", factory.store.root)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith(NAME)] == [
        [NAME, version, state]
        for version, state in zip(factory.versions, ("published", "champion", "refused"), strict=True)
    ]
    assert lines[3].strip() == "serves on this machine"
    narrow = defectline("models", "--store", factory.store.root, env={"COLUMNS": "80"})
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    found = json.loads(call("models", "--store", factory.store.root, "--json").stdout)
    assert [one["version"] for one in found] == factory.versions
    assert found[1]["metrics"]["iou"] == factory.runs[1].bundle.metrics["test"]["iou"]
    assert contents(factory.store.root) == before


def test_only_one_name_and_a_store_without_models(factory, tmp_path: Path):
    done = call("models", "--store", factory.store.root, "--name", "other")
    assert (done.returncode, done.stdout.split(" in ")[0]) == (0, "no models called other")
    missing = call("models", "--store", tmp_path / "missing")
    assert missing.returncode == 2
    assert "fix:" in missing.stderr


def test_what_is_cut_off_or_damaged_is_said(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    bundle = make_bundle(tmp_path / "bundle")
    publish_folder(tmp_path / "bundle", store, f"models/{NAME}/{bundle.version}")
    store.delete(f"models/{NAME}/{bundle.version}/SHA256SUMS")
    store.write("models/defects/v20260101-000000-aaaaaa/bundle.json", b"{")
    store.write("runs/odd/metrics.json", b"[]")
    store.write("runs/odd/outcome.json", b"{}")
    said: list[str] = []
    models = read_models(store, read_runs(store, said.append), said.append)
    assert {m.state for m in models} == {"incomplete"}
    assert [line.rpartition("/")[2] for line in said] == [
        "outcome.json cannot be read and is left out",
        "metrics.json cannot be read and is left out",
        "bundle.json cannot be read and is left out",
    ]


def test_the_cluster_says_what_it_serves(tmp_path: Path, monkeypatch):
    store = FolderStorage(tmp_path / "store")
    bundles = []
    for seed in (0, 1):
        bundles.append(make_bundle(tmp_path / str(seed), seed=seed))
        publish_folder(tmp_path / str(seed), store, f"serving/{NAME}/{bundles[-1].version}")
    api = ApiServer()
    settings = KServeSettings(namespace="vision", image="registry.example/defectline-serve:0.1.0")
    service = inference_service(NAME, bundles[0].version, "s3://a/b/", settings)
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        api.put("inferenceservices", "vision", NAME, service)
        options = ("models", "--store", store.root, "--json", "--namespace")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        found = json.loads(call(*options, "vision").stdout)
        none = json.loads(call(*options, "elsewhere").stdout)
    served = {one["version"]: one["served_by"] for one in found}
    assert served == {bundles[0].version: ["KServe, vision"], bundles[1].version: []}
    assert [one["served_by"] for one in none] == [[], []]
