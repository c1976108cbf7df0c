"""The deal step."""

from pathlib import Path

from pictures import write_source

from defectline.components.common.layout import fold_run
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.grouping.dealing import deal
from defectline.components.ingest.step import ingest


def test_every_fold_of_every_seed_has_a_snapshot_and_a_run(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    snapshot = ingest(str(write_source(tmp_path / "source", range(12))), store.uri)
    found = deal(store.uri, snapshot, 2, range(5, 7), "epochs=60.0")
    assert [one["seed"] for one in found] == [5, 5, 6, 6]
    assert [one["snapshot"] for one in found[:2]] == [one["snapshot"] for one in found[2:]]
    tested = [p.id for one in found[:2] for p in read_pairs(store, one["snapshot"]) if p.split == "test"]
    assert len(tested) == len(set(tested)) == 24
    assert found[0]["run"] == fold_run(found[0]["snapshot"], "seed=5 epochs=60")
    assert len({one["run"] for one in found}) == 4
    assert [one["part"] for one in found] == 2 * ["fold 1 of 2", "fold 2 of 2"]
