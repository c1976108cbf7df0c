"""`defectline prune`: nothing goes that something kept, or a run under way, needs."""

import json
import os
import shutil
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import boto3
import pytest
from bundles import make_bundle
from cluster.api import ApiServer
from commands import call, contents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import remove_pair, write_pair, write_source
from servers import S3Server
from stores import NAME, deploy

from defectline.components.common.bundle import Data, publish_folder, read_bundle
from defectline.components.common.errors import Conflict
from defectline.components.common.layout import AUDIT
from defectline.components.common.records import (
    GateRecord,
    Outcome,
    read_champion,
    read_gate,
    write_gate,
    write_outcome,
)
from defectline.components.common.snapshot import SPLITS, read_files, read_head, read_pairs
from defectline.components.common.storage import Storage, checksums, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy.kserve.manifests import inference_service
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.ingest import packing
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.ingest.splits import LEAST as LEAST_OF_SPLIT
from defectline.pipeline.catalog.prune import make_plan, prune, read_state
from defectline.pipeline.catalog.snapshots import list_snapshots
from defectline.pipeline.local import run_lock

WEEK = timedelta(days=7)
LEAST = 8
"""Pairs of each label, with which a source is large enough."""


class Plant:
    """A source and a store with which things happen, one after the other."""

    def __init__(self, folder: Path):
        self.folder, self.source = folder, folder / "source"
        self.store = FolderStorage(folder / "store")
        self.numbers = LEAST
        self.happened = 0
        write_source(self.source, range(self.numbers))

    def add(self) -> None:
        self.numbers += 1
        write_pair(self.source, "OK", self.numbers)

    def take_away(self) -> None:
        """A picture that was added leaves the source, where each split keeps enough for the next ingest."""
        id, head = f"OK/{self.numbers:05d}_OK", read_head(self.store) if self.store.root.exists() else None
        rows = read_pairs(self.store, head) if head else []
        left = Counter(row.split for row in rows if row.accepted and row.label == "OK" and row.id != id)
        there = (self.source / f"{id}_Image.png").exists() and self.numbers > LEAST
        if there and (not rows or min(left[split] for split in SPLITS) >= LEAST_OF_SPLIT):
            remove_pair(self.source, "OK", self.numbers)

    def ingest(self, run: str) -> str:
        # A pack holds three pairs, so snapshots share some of their packs and have others of their own.
        with patch.object(packing, "PACK_BYTES", 1500):
            return take_snapshot(
                FolderStorage(self.source),
                self.store,
                f"runs/{run}/quarantine.csv",
                IngestSettings(max_rejected=0.5),
            ).snapshot.id

    def train(self) -> str:
        """A run whose model is deployed; returns its version."""
        self.happened += 1
        run, sealed = f"run-{self.happened:03d}", self.folder / f"bundle-{self.happened}"
        snapshot = self.ingest(run)
        bundle = make_bundle(sealed, seed=self.happened)
        data = Data(snapshot=snapshot, fingerprint="", pairs={})
        # Versions begin with the second in which they were sealed; here each has one of its own.
        version = f"v20260101-{self.happened:06d}-{bundle.version[-6:]}"
        bundle = bundle.model_copy(update={"data": data, "version": version})
        (sealed / "bundle.json").write_text(bundle.model_dump_json())
        checksums.seal(sealed)
        deploy(self.store, sealed, bundle, run, snapshot)
        return version

    def refuse(self) -> None:
        self.happened += 1
        run = f"run-{self.happened:03d}"
        snapshot = self.ingest(run)
        write_gate(self.store, NAME, GateRecord(run=run, snapshot=snapshot, settings_key=""))
        write_outcome(self.store, run, Outcome(state="refused", reason="too many escapes"))

    def find_little_new(self) -> None:
        self.happened += 1
        run = f"run-{self.happened:03d}"
        self.add()
        self.ingest(run)
        write_outcome(self.store, run, Outcome(state="nothing_new", reason="1 new, 5 needed"))

    def cut_off(self) -> None:
        """What a deploy and a training leave that were killed long ago."""
        self.happened += 1
        version = f"v20260101-{self.happened:06d}-{self.happened:06x}"
        self.store.write(f"models/{NAME}/{version}/model.keras", b"half")
        self.store.write(f"checkpoints/{self.happened:032x}/epoch-00001.npz", b"weights")
        self.store.write(f"pretrained/{self.happened:012x}.keras", b"weights")
        (self.store.root / f"models/{NAME}/.bundle.json.ab12cd3_").write_bytes(b"half")

    def roll_back(self) -> None:
        kept = sorted((self.store.root / f"models/{NAME}").glob("v*/SHA256SUMS"))
        if kept:
            current = {"version": kept[0].parent.name, "run": "rollback"}
            self.store.write(f"models/{NAME}/current.json", json.dumps(current).encode())

    def grow_old(self, days: float = 30) -> None:
        then = time.time() - days * 86_400
        for path in self.store.root.rglob("*"):
            os.utime(path, (then, then))


def check_whole(store: Storage, folder: Path) -> None:
    """Every bundle verifies, every snapshot reads, and what runs look for is there."""
    models = sorted(
        {tuple(one.key.split("/")[1:3]) for one in store.list("models/") if one.key.count("/") > 2}
    )
    for name, version in models:
        with TemporaryDirectory(dir=folder) as copy:
            store.download_folder(f"models/{name}/{version}", Path(copy))
            bundle = read_bundle(Path(copy))
        list(read_pairs(store, bundle.data.snapshot))
    snapshots = list_snapshots(store)
    for snapshot in snapshots:
        pairs = [pair for pair in read_pairs(store, snapshot.id) if pair.pack]
        assert len(list(read_files(store, pairs))) == len(pairs)
    there = {snapshot.id for snapshot in snapshots}
    assert (read_head(store) or "") in {*there, ""}
    if gated := read_gate(store, NAME):
        assert gated.snapshot in there
    if current := read_champion(store, NAME):
        assert (NAME, current.version) in models


EVENTS = ("add", "take_away", "train", "train", "refuse", "find_little_new", "cut_off", "roll_back")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=9), st.integers(1, 3))
def test_after_any_prune_what_is_kept_is_whole(tmp_path_factory, events, keep):
    folder = tmp_path_factory.mktemp("plant")
    plant = Plant(folder)
    for event in events:
        getattr(plant, event)()
    plant.grow_old()
    versions = sorted(path.parent.name for path in plant.store.root.glob(f"models/{NAME}/v*/SHA256SUMS"))
    untouched = FolderStorage(folder / "untouched")
    shutil.copytree(plant.store.root, untouched.root) if plant.store.root.exists() else untouched.root.mkdir()
    before = contents(plant.store.root) if plant.store.root.exists() else {}
    if not before:
        return
    prune(plant.store, keep, WEEK, None, pytest.fail)
    check_whole(plant.store, folder)
    left = sorted(path.name for path in plant.store.root.glob(f"models/{NAME}/v*"))
    current = read_champion(plant.store, NAME)
    assert left == sorted({*versions[-keep:], *([current.version] if current else [])})
    assert contents(plant.store.root).items() <= before.items() | {(".run.lock", b"")}
    assert not list(plant.store.incomplete_uploads())
    assert not list(plant.store.list("checkpoints/"))

    once = contents(plant.store.root)
    assert prune(plant.store, keep, WEEK, None, pytest.fail) == []
    assert contents(plant.store.root) == once

    # The next run finds what it would have found.
    plant.add()
    pruned = plant.ingest("next")
    plant.store = untouched
    assert plant.ingest("next") == pruned


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Four models on four snapshots, the last one the champion."""
    plant = Plant(tmp_path)
    for _ in range(4):
        plant.train()
        plant.add()
    plant.refuse()
    return plant


def kinds(store: Storage, keep: int, in_use=None) -> dict[str, list[str]]:
    plan = make_plan(read_state(store, in_use, pytest.fail), keep, datetime.now(UTC) - WEEK)
    found: dict[str, list[str]] = {}
    for item in plan.items:
        found.setdefault(item.kind, []).append(item.name)
    return found


def test_a_dry_run_lists_and_removes_nothing(plant):
    before = contents(plant.store.root)
    done = call("prune", "--store", plant.store.root, "--keep", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was removed, --yes does it" in done.stdout
    assert contents(plant.store.root) == before
    listed = json.loads(call("prune", "--store", plant.store.root, "--keep", "2", "--json").stdout)
    assert listed["removed"] is False
    gone = json.loads(call("prune", "--store", plant.store.root, "--keep", "2", "--yes", "--json").stdout)
    assert gone["removed"] is True
    assert gone["items"] == listed["items"]
    after = contents(plant.store.root)
    noted = after.pop(AUDIT)
    assert noted.count(b'"act":"prune"') == sum(one["kind"] in ("model", "snapshot") for one in gone["items"])
    shrunk = sum(map(len, before.values())) - sum(map(len, after.values()))
    assert gone["bytes"] == listed["bytes"] == shrunk > 0
    assert sorted(one["kind"] for one in gone["items"])[:2] == ["model", "model"]
    again = call("prune", "--store", plant.store.root, "--keep", "2", "--yes")
    assert again.stdout.splitlines()[-1].startswith("removed: 0 things")


def test_a_run_under_way_stops_it(plant):
    plant.store.write("runs/now/quarantine.csv", b"")
    before = contents(plant.store.root)
    done = call("prune", "--store", plant.store.root, "--keep", "1", "--yes")
    assert done.returncode == 2
    assert "A run is under way." in done.stderr
    assert "no outcome yet of now" in done.stderr
    assert contents(plant.store.root).items() - before.items() <= {(".run.lock", b"")}
    shown = call("prune", "--store", plant.store.root, "--keep", "1")
    assert "a run is under way: now; nothing can be removed" in shown.stdout
    os.utime(plant.store.root / "runs/now/quarantine.csv", (0, 0))
    assert call("prune", "--store", plant.store.root, "--keep", "1", "--yes").returncode == 0


def test_the_lock_of_a_run_on_this_machine_stops_it(plant):
    before = contents(plant.store.root)
    with run_lock(plant.store), pytest.raises(Conflict, match="Another run uses this store"):
        prune(plant.store, 1, WEEK, None, pytest.fail)
    assert contents(plant.store.root).keys() - before.keys() <= {".run.lock"}


class Disturbed(FolderStorage):
    """A folder where something happens just after the first snapshot has been removed."""

    def __init__(self, root: Path, happens):
        super().__init__(root)
        self.happens = happens

    def delete(self, key: str) -> None:
        super().delete(key)
        if key.endswith("/snapshot.json") and self.happens:
            happens, self.happens = self.happens, None
            happens()


def test_a_run_that_begins_meanwhile_keeps_every_pack(plant):
    packs = {one.key for one in plant.store.list("snapshots/packs/")}
    store = Disturbed(plant.store.root, lambda: plant.store.write("runs/now/quarantine.csv", b""))
    with pytest.raises(Conflict, match="A run is under way"):
        prune(store, 1, WEEK, None, pytest.fail)
    assert {one.key for one in plant.store.list("snapshots/packs/")} == packs
    check_whole(plant.store, plant.folder)


def test_a_whole_run_meanwhile_is_kept_whole(plant):
    store = Disturbed(plant.store.root, plant.train)
    said: list[str] = []
    prune(store, 1, WEEK, None, said.append)
    check_whole(plant.store, plant.folder)
    current = read_champion(plant.store, NAME)
    assert current is not None
    assert (plant.store.root / f"models/{NAME}/{current.version}").is_dir()


def test_a_version_that_becomes_the_champion_meanwhile_is_kept_with_what_it_needs(plant):
    second = sorted((plant.store.root / f"models/{NAME}").glob("v*"))[1].name

    class RolledBack(FolderStorage):
        def delete(self, key: str) -> None:
            super().delete(key)
            if key.endswith(checksums.NAME):
                plant.roll_back()

    said: list[str] = []
    prune(RolledBack(plant.store.root), 1, WEEK, None, said.append)
    assert read_champion(plant.store, NAME).version == second
    assert said == [f"{NAME} {second} has become the champion: kept"]
    check_whole(plant.store, plant.folder)


def test_unfinished_work_stays_until_it_is_old(plant):
    plant.cut_off()
    packs = kinds(plant.store, 1)
    assert not packs.keys() & {"checkpoint", "upload", "weights"}
    plant.grow_old(6)
    assert not kinds(plant.store, 1).keys() & {"checkpoint", "upload", "weights"}
    plant.grow_old(8)
    assert {"checkpoint", "upload", "weights"} <= kinds(plant.store, 1).keys()


def test_an_ingest_that_was_cut_off_keeps_its_packs_until_it_is_old(plant):
    for _ in range(5):
        plant.add()
    with (
        patch("defectline.components.ingest.snapshotter.publish_snapshot", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        plant.ingest("killed")
    os.utime(plant.store.root / "runs/killed/quarantine.csv", (0, 0))
    journals = [one.key for one in plant.store.list("snapshots/journal/")]
    packs = {
        one.key.rpartition("/")[2].removesuffix(".parquet") for one in plant.store.list("snapshots/journal/")
    }
    assert packs
    assert "journal" not in kinds(plant.store, 1)
    assert not packs & set(kinds(plant.store, 1).get("pack", []))
    plant.grow_old()
    assert len(kinds(plant.store, 1)["journal"]) == len(journals)
    assert packs <= set(kinds(plant.store, 1)["pack"])


def test_weights_that_something_starts_from_stay(plant):
    plant.store.write("pretrained/aaaaaaaaaaaa.keras", b"used by the last gate")
    plant.store.write("pretrained/bbbbbbbbbbbb.keras", b"used by nothing")
    plant.grow_old()
    url = plant.store.url("pretrained/aaaaaaaaaaaa.keras")
    gated = read_gate(plant.store, NAME).model_copy(
        update={"settings_key": f"epochs=3 init_from={url}#sha256=1"}
    )
    plant.store.write(f"models/{NAME}/gated.json", gated.model_dump_json().encode())
    assert kinds(plant.store, 1)["weights"] == ["bbbbbbbbbbbb.keras"]


def test_what_cannot_be_read_keeps_all_that_it_might_need(plant):
    champion = read_champion(plant.store, NAME).version
    before = kinds(plant.store, 1)
    assert before["snapshot"]
    path = plant.store.root / f"models/{NAME}/{champion}/bundle.json"
    whole = path.read_bytes()
    path.write_bytes(b"{")
    said: list[str] = []
    plan = make_plan(read_state(plant.store, None, said.append), 1, datetime.now(UTC))
    assert {item.kind for item in plan.items}.isdisjoint({"snapshot", "pack"})
    assert "cannot be read" in said[0]
    path.write_bytes(whole)
    head = plant.store.root / f"snapshots/{read_head(plant.store)}/index.parquet"
    head.write_bytes(b"no index")
    plan = make_plan(read_state(plant.store, None, said.append), 1, datetime.now(UTC))
    assert "pack" not in {item.kind for item in plan.items}


def test_what_kserve_serves_stays(plant, tmp_path, monkeypatch):
    versions = sorted(path.name for path in (plant.store.root / f"models/{NAME}").glob("v*"))
    for version in versions:
        folder = plant.store.root / f"models/{NAME}/{version}"
        publish_folder(folder, plant.store, f"serving/{NAME}/{version}")
        plant.store.write(f"serving/{NAME}/deployed/vision/{version}.json", b"{}")
    plant.store.delete(f"models/{NAME}/current.json")
    # Nobody has asked the cluster, so it may serve any of them.
    assert "model" not in kinds(plant.store, 1)
    record = json.dumps({"former": versions[1]}).encode()
    plant.store.write(f"serving/{NAME}/deployed/vision/{versions[0]}.json", record)
    settings = KServeSettings(namespace="vision", image="registry.example/defectline-serve:0.1.0")
    api = ApiServer()
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        api.put(
            "inferenceservices", "vision", NAME, inference_service(NAME, versions[0], "s3://a/b/", settings)
        )
        options = ("--store", plant.store.root, "--keep", "1", "--namespace", "vision", "--yes")
        done = call("prune", *options)
    assert (done.returncode, done.stderr) == (0, "")
    # Served, what served before that, and the last one.
    left = [versions[0], versions[1], versions[3]]
    for place in (f"models/{NAME}/v*", f"serving/{NAME}/v*"):
        assert sorted(path.name for path in plant.store.root.glob(place)) == left
    records = plant.store.root.glob(f"serving/{NAME}/deployed/vision/*.json")
    assert sorted(path.stem for path in records) == left


def test_a_bucket_with_an_upload_that_was_cut_off(plant, s3_server: S3Server, monkeypatch):
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    bucket = s3_server.new_bucket()
    store = open_storage(f"s3://{bucket}/factory")
    store.upload_folder(plant.store.root, "")
    client = boto3.client("s3")
    client.create_multipart_upload(Bucket=bucket, Key="factory/snapshots/packs/0123456789abcdef.tar")
    client.create_multipart_upload(Bucket=bucket, Key="elsewhere/big")
    (left,) = store.incomplete_uploads()
    assert left.key == "snapshots/packs/0123456789abcdef.tar"
    # The stand-in dates every upload to 2010.
    prune(store, 1, timedelta(days=20_000), None, pytest.fail)
    assert list(store.incomplete_uploads()) == [left]
    prune(store, 1, WEEK, None, pytest.fail)
    assert list(store.incomplete_uploads()) == []
    assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
    check_whole(store, plant.folder)
    assert len({one.key.split("/")[2] for one in store.list("models/") if one.key.count("/") > 2}) == 1


def test_numbers_that_make_no_sense(plant):
    assert call("prune", "--store", plant.store.root, "--keep", "0").returncode == 2
    assert call("prune", "--store", plant.folder / "missing", "--yes").returncode == 2
    assert not (plant.folder / "missing").exists()
