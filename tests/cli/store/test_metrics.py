"""`defectline metrics`"""

import json

from commands import call
from PIL import Image

from defectline.components.common.storage.folder import FolderStorage


def test_the_latest_are_compared_unless_others_are_named(factory, tmp_path):
    done = call("metrics", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    named = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("run-")]
    assert named == ["run-1", "run-2", "run-3"]
    passed = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if "run-" in line}
    assert (passed["run-1"], passed["run-2"]) == ("passed", "passed")
    assert passed["run-3"] != "passed"
    (one,) = json.loads(call("metrics", "run-2", "--store", factory.store.root, "--json").stdout)
    assert (one["run"], one["version"]) == ("run-2", factory.versions[1])
    done = call("metrics", "run-1", "--store", factory.store.root, "--plot", tmp_path / "bars.png")
    assert done.stderr == f"drawn in {tmp_path / 'bars.png'}\n"
    with Image.open(tmp_path / "bars.png") as drawn:
        assert min(drawn.size) > 100


def test_runs_of_several_classes_have_a_line_for_each(tmp_path):
    store = FolderStorage(tmp_path / "store")
    numbers = {"pictures": 12, "escape": 0.25, "iou": 0.75, "regions": 20, "region_recall": 0.9}
    by_class = {
        "dent": {**numbers, "region_class": 0.5, "rare": False},
        "a [scratch]": {"pictures": 2, "escape": None, "iou": None, "regions": 0, "region_recall": None}
        | {"region_class": None, "rare": True},
    }
    for run, more in (("one", {}), ("several", {"test_classes": by_class})):
        found = {"version": "v1", "test": {"iou": 0.5, "escape": 0.25, "overkill": 0.0}, **more}
        store.write(f"runs/{run}/metrics.json", json.dumps(found).encode())
    shown = [line.split() for line in call("metrics", "--store", store.root).stdout.splitlines()]
    assert ["several", "by", "class:"] in shown
    assert ["class", "pictures", "escape", "IoU", "regions", "found", "as", "this", "class"] in shown
    assert ["dent", "12", "0.250", "0.750", "20", "0.900", "0.500"] in shown
    rare = ["a", "[scratch]", "2", "–", "–", "0", "–", "–", "too", "rare"]
    assert rare in shown
    one, several = json.loads(call("metrics", "--store", store.root, "--json").stdout)
    assert several["test_classes"] == by_class
    assert "test_classes" not in one
    assert "dent" not in call("metrics", "one", "--store", store.root).stdout
