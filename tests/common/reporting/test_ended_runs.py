"""The last runs of a store."""

import json
import os
from pathlib import Path

from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.reporting import ended_runs
from defectline.components.common.reporting.ended_runs import read_runs
from defectline.components.common.storage.folder import FolderStorage


def test_the_newest_come_first_and_folds_not_at_all(tmp_path: Path, monkeypatch):
    store = FolderStorage(tmp_path)
    for number in range(5):
        store.write(f"runs/run-{number}/metrics.json", json.dumps({"model": "m", "version": number}).encode())
    write_outcome(store, "run-3", Outcome(state="kept", reason=""))
    store.write("runs/crossval-1/metrics.json", b"{}")
    store.write("runs/run-4/outcome.json", b"{")
    store.write("runs/run-2/metrics.json", b"[]")
    for number, name in enumerate(["run-0", "run-1", "run-3", "run-4", "run-2"]):
        for path in (tmp_path / "runs" / name).iterdir():
            os.utime(path, (number, number))
    monkeypatch.setattr(ended_runs, "RUNS", 4)
    found = read_runs(store)
    assert found[0].run == "run-2"
    assert {one.run: (one.state, one.model, one.version) for one in found} == {
        "run-4": ("unfinished", "m", "4"),
        "run-3": ("kept", "m", "3"),
        "run-2": ("unfinished", "", ""),
        "run-1": ("unfinished", "m", "1"),
    }
    assert found[-1].files == {"metrics.json"}
