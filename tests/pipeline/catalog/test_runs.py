"""`defectline runs`, `metrics` and `report`."""

import json
import os
from pathlib import Path

from commands import call, contents
from PIL import Image
from servers import S3Server
from stores import Factory

from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage


def test_runs_of_a_store(factory: Factory):
    found = json.loads(call("runs", "--store", factory.store.root, "--json").stdout)
    assert [(row["run"], row["state"], row["version"]) for row in found] == [
        (one.run, state, one.bundle.version)
        for one, state in zip(reversed(factory.runs), ("refused", "deployed", "deployed"), strict=True)
    ]
    assert all(row["minutes"] >= 0 for row in found)
    last = json.loads(call("runs", "--store", factory.store.root, "--json", "--limit", "1").stdout)
    assert last == found[:1]
    shown = call("runs", "--store", factory.store.root).stdout.splitlines()
    assert [line.split()[0] for line in shown if line.startswith("run-")] == ["run-3", "run-2", "run-1"]
    assert "max_escape" in shown[1]


def test_a_run_under_way_and_one_that_failed(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    store.write("runs/failed/quarantine.csv", b"")
    write_outcome(store, "failed", Outcome(state="failed", reason="the disk is full"))
    os.utime(store.root / "runs/failed/quarantine.csv", (0, 0))
    store.write("runs/now/quarantine.csv", b"")
    found = json.loads(call("runs", "--store", store.root, "--json").stdout)
    assert [(row["run"], row["state"], row["reason"], row["minutes"] is None) for row in found] == [
        ("now", "unfinished", "", True),
        ("failed", "failed", "the disk is full", False),
    ]
    done = call("metrics", "failed", "--store", store.root)
    assert done.returncode == 2
    assert "a run that ended as failed" in done.stderr
    assert call("metrics", "--store", store.root).returncode == 2
    assert call("report", "now", "--store", store.root).returncode == 2


def test_folds_are_listed_where_there_are_no_other_runs(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    for name in ("one", "two"):
        store.write(f"runs/crossval-{name}/metrics.json", b'{"version": "v"}')

    def listed() -> list[str]:
        return [row["run"] for row in json.loads(call("runs", "--store", store.root, "--json").stdout)]

    assert sorted(listed()) == ["crossval-one", "crossval-two"]
    store.write("runs/now/quarantine.csv", b"")
    assert listed() == ["now"]


def test_metrics_side_by_side(factory: Factory, tmp_path: Path):
    found = json.loads(call("metrics", "run-1", "run-3", "--store", factory.store.root, "--json").stdout)
    assert [one["version"] for one in found] == [factory.versions[0], factory.versions[2]]
    assert found[0]["test"]["iou"] == factory.runs[0].bundle.metrics["test"]["iou"]
    assert (found[0]["champion"], found[1]["champion"]) == ("", factory.versions[1])
    assert not all(rule["passed"] for rule in found[1]["gate"])
    every = call("metrics", "--store", factory.store.root).stdout
    assert [name for name in ("run-1", "run-2", "run-3") if name in every] == ["run-1", "run-2", "run-3"]
    assert "max_escape" in every
    picture = tmp_path / "bars.png"
    assert call("metrics", "--store", factory.store.root, "--plot", picture).returncode == 0
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 1000
        # The bars of the first two runs are there, in their colour.
        assert (0x48, 0x78, 0xA8) in {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20)}
    assert list(tmp_path.iterdir()) == [picture]
    other = call("metrics", "--store", factory.store.root, "--plot", tmp_path / "bars.txt")
    assert (other.returncode, "bars.png" in other.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == [picture]
    done = call("metrics", "--store", factory.store.root, "--plot", tmp_path / "missing/bars.png")
    assert done.returncode == 2
    assert call("metrics", "run-9", "--store", factory.store.root).returncode == 2


def test_a_report_is_found_or_fetched(factory: Factory, tmp_path: Path, s3_server: S3Server, monkeypatch):
    there = factory.store.root / "runs/run-2/report.html"
    assert call("report", "run-2", "--store", factory.store.root).stdout.strip() == str(there)
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    store = open_storage(f"s3://{s3_server.new_bucket()}/factory")
    store.upload(there, "runs/run-2/report.html")
    monkeypatch.chdir(tmp_path)
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    done = call("report", "run-2", "--store", store.uri, "--open")
    assert done.returncode == 0, done.stderr
    fetched = tmp_path / "report-run-2.html"
    assert done.stdout.strip() == str(fetched)
    assert fetched.read_bytes() == there.read_bytes()
    assert opened.read_text() == fetched.as_uri()
    before = contents(tmp_path)
    assert call("report", "run-7", "--store", store.uri).returncode == 2
    assert contents(tmp_path) == before
