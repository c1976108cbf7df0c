"""`defectline snapshots`"""

import json
import shutil

from commands import call
from networks import write_source

from defectline.components.ingest.step import ingest


def test_each_snapshot_shows_its_own_sources(tmp_path):
    first, moved, store = tmp_path / "first", tmp_path / "moved", tmp_path / "store"
    write_source(first, 40)
    taken = ingest(str(first), str(store), "run-1")
    shutil.copytree(first, moved)
    assert ingest(str(moved), str(store), "run-2", settings={"force": True}) == taken
    (row,) = json.loads(call("snapshots", "--store", store, "--json").stdout)
    assert (row["id"], row["earlier_sources"], row["source"]) == (taken, [first.as_uri()], moved.as_uri())
    done = call("snapshots", "--store", store)
    assert first.as_uri() in done.stdout
    assert moved.as_uri() in done.stdout


def test_two_are_compared_by_prefixes(factory):
    first, second, third = (one.snapshot for one in factory.runs)
    done = call("snapshots", "--store", factory.store.root)
    assert next(line for line in done.stdout.splitlines() if line.startswith("→")).split()[1] == third
    done = call("snapshots", "--store", factory.store.root, "--diff", first[:8], second[:8])
    assert done.stdout.splitlines()[0] == f"from {first} to {second}"
    assert "NG/new-1" in done.stdout
