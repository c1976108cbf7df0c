"""`defectline lineage`: from a model to its pictures, and from a picture to its models."""

import hashlib
import json

from commands import call, contents
from stores import NAME, Factory

from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.lineage import is_version


def traced(factory: Factory, *what: str) -> dict:
    done = call("lineage", *what, "--store", factory.store.root, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_from_a_model_to_its_pictures(factory):
    before = contents(factory.store.root)
    second = factory.runs[1]
    found = traced(factory, second.bundle.version, "--images")
    assert (found["name"], found["state"]) == (NAME, "champion")
    assert (found["run"]["id"], found["run"]["state"]) == ("run-2", "deployed")
    assert found["compared_with"] == factory.versions[0]
    assert found["snapshot"]["id"] == second.snapshot
    assert found["snapshot"]["fingerprint"] == second.bundle.data.fingerprint
    sums = {split: sum(labels.values()) for split, labels in found["images"].items()}
    assert sums == second.bundle.data.pairs
    assert {"min_iou", "champion_iou"} <= {row["name"] for row in found["gate"]}
    rows = {row.id: row for row in read_pairs(factory.store, second.snapshot) if row.accepted}
    assert {one["id"]: one["image_sha256"] for one in found["pictures"]} == {
        id: row.image_sha256 for id, row in rows.items()
    }
    counted = json.loads(factory.store.read("runs/run-2/counts.json"))
    judged = {one["id"]: one["verdict"] for one in found["pictures"] if one["verdict"]}
    assert judged == {row["id"]: row["verdict"] for row in counted}
    assert contents(factory.store.root) == before


def test_a_refused_version_has_a_lineage_too(factory):
    found = traced(factory, factory.versions[2])
    assert (found["state"], found["snapshot"]["id"]) == ("refused", factory.runs[2].snapshot)
    assert "max_escape" in found["run"]["reason"]
    assert "pictures" not in found


def test_from_a_picture_to_its_models_and_back(factory):
    for id in ("NG/new-1", "OK/000"):
        found = traced(factory, id)
        first = [factory.runs[0].snapshot] if id == "OK/000" else []
        held = [*first, factory.runs[1].snapshot, factory.runs[2].snapshot]
        assert [one["snapshot"] for one in found["snapshots"]] == held
        assert [one["newest"] for one in found["snapshots"]] == [False] * (len(held) - 1) + [True]
        of_snapshot = {one.snapshot: one.bundle.version for one in factory.runs}
        assert [one["version"] for one in found["models"]] == [of_snapshot[snapshot] for snapshot in held]
        assert found["frames"] == []
        for use in found["models"]:
            pictures = traced(factory, use["version"], "--images")["pictures"]
            (picture,) = [one for one in pictures if one["id"] == id]
            split = {"trained on": "train", "calibrated on": "validation", "judged on": "test"}[use["use"]]
            assert (picture["split"], picture["verdict"]) == (split, use["verdict"])


def test_a_picture_by_any_of_its_names(factory):
    path = factory.source / "NG/new-1.png"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    by_id = traced(factory, "NG/new-1")
    for name in ("NG/new-1_Image", "NG/new-1.png", str(path), digest, digest[:12], digest.upper()):
        assert traced(factory, name) == by_id


def test_a_picture_that_was_a_frame_of_the_line(factory):
    (path,) = (factory.source / "NG").glob("review-*.png")
    id = path.stem.removeprefix("review-")
    found = traced(factory, f"NG/{path.stem}")
    (frame,) = found["frames"]
    assert (frame["id"], frame["version"]) == (id, factory.versions[0])
    assert (frame["verdict"], frame["decided"]) == ("NG", "NG")
    assert frame["exported"] == [FolderStorage(factory.source).uri]
    assert [one["version"] for one in found["models"]] == factory.versions[1:]
    assert traced(factory, id) == found


def test_tables_for_people(factory):
    shown = call("lineage", factory.versions[1], "--store", factory.store.root, "--images").stdout
    for text in ("serves on this machine", "run-2", factory.runs[1].snapshot, "champion_iou", "NG/new-1"):
        assert text in shown
    (path,) = (factory.source / "NG").glob("review-*.png")
    shown = call("lineage", f"NG/{path.stem}", "--store", factory.store.root).stdout
    for text in ("frame", "in doubt", *factory.versions[1:], factory.runs[2].snapshot):
        assert text in shown


def test_what_the_store_does_not_know(factory):
    for what in ("NG/nothing", "0123456789ab", "v20010101-000000-abcdef", "abc"):
        done = call("lineage", what, "--store", factory.store.root)
        assert (done.returncode, done.stdout) == (2, "")
        assert "fix:" in done.stderr
        assert "Traceback" not in done.stderr
    common = "".join(a for a, b in zip(factory.versions[0], factory.versions[1], strict=True) if a == b)
    assert is_version(factory.versions[0][:5])
    assert "Several versions begin" in call("lineage", common[:5], "--store", factory.store.root).stderr


def test_only_versions_are_taken_for_versions():
    assert [
        is_version(text) for text in ("v20261122-101530-3fa9c1", "v2", "v", "vase", "NG/v2", "v2.png")
    ] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
