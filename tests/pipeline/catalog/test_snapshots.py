"""`defectline snapshots`: what a store holds, and what changed from one snapshot to another."""

import json
import shutil
from pathlib import Path

import pytest
from bundles import make_bundle
from commands import call, contents, defectline
from pictures import encode, mask, remove_pair, write_pair, write_source

from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.snapshot import Pair, read_pairs, read_snapshot
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.pipeline.catalog.snapshots import compare, difference, summarize


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(20))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "store")


def take(source: Path, store: FolderStorage, day: int) -> str:
    """A snapshot that was taken on that day."""
    snapshot = take_snapshot(
        FolderStorage(source), store, "runs/r/quarantine.csv", IngestSettings(max_rejected=0.5)
    ).snapshot
    dated = snapshot.model_copy(update={"created": f"2026-01-{day:02}T05:00:00+00:00"})
    store.write(f"snapshots/{snapshot.id}/snapshot.json", dated.model_dump_json().encode())
    return snapshot.id


def test_the_table_counts_pairs_and_names_models(source: Path, store: FolderStorage, tmp_path: Path):
    first = take(source, store, 1)
    bundle = make_bundle(tmp_path / "bundle")
    used = bundle.model_copy(update={"data": bundle.data.model_copy(update={"snapshot": first})})
    store.write(f"models/defects/{bundle.version}/bundle.json", used.model_dump_json().encode())
    for number in (50, 51, 52):
        write_pair(source, "OK", number)
    (source / "NG/00002_NG_Image.png").write_bytes(b"broken")
    second = take(source, store, 2)
    remove_pair(source, "OK", 50)
    third = take(source, store, 3)
    rows = summarize(store, print)
    assert [(row.snapshot.id, row.new, row.snapshot.rejected, row.head) for row in rows] == [
        (first, 40, 0, False),
        (second, 3, 1, False),
        (third, 0, 1, True),
    ]
    assert [row.models for row in rows] == [[f"defects {bundle.version}"], [], []]

    before = contents(store.root)
    done = defectline("snapshots", "--store", store.root)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["snapshot", "date", "pairs", "new", "rejected", "models", "source"]
    model, uri = ["defects", bundle.version], source.as_uri()
    assert lines[1].split() == [first, "2026-01-01", "05:00:00", "40", "40", "0", *model, uri]
    assert lines[2].split() == [second, "2026-01-02", "05:00:00", "42", "3", "1", uri]
    assert lines[3].split() == ["→", third, "2026-01-03", "05:00:00", "41", "0", "1", uri]
    assert contents(store.root) == before


def test_a_snapshot_keeps_the_sources_that_it_was_taken_from(
    source: Path, store: FolderStorage, tmp_path: Path
):
    first = take(source, store, 1)
    twin = tmp_path / "twin"
    shutil.copytree(source, twin)
    uris = [FolderStorage(folder).uri for folder in (source, twin)]
    assert take(twin, store, 1) == first
    (row,) = summarize(store, print)
    assert (row.snapshot.source, list(row.snapshot.sources)) == (uris[1], uris)
    assert take(source, store, 1) == first
    (row,) = summarize(store, print)
    assert (row.snapshot.source, sorted(row.snapshot.sources)) == (uris[0], sorted(uris))
    write_pair(twin, "OK", 50)
    take(twin, store, 2)
    first_row, second_row = summarize(store, print)
    assert (first_row.snapshot.source, second_row.snapshot.sources) == (uris[0], (uris[1],))
    (found, _) = json.loads(call("snapshots", "--store", store.root, "--json").stdout)
    assert (found["source"], found["earlier_sources"]) == (uris[0], [uris[1]])


def test_a_snapshot_of_the_release_before_opens(source: Path, store: FolderStorage):
    first = take(source, store, 1)
    key = f"snapshots/{first}/snapshot.json"
    written = json.loads(store.read(key))
    del written["earlier_sources"]
    store.write(key, json.dumps(written).encode())
    assert read_snapshot(store, first).sources == (FolderStorage(source).uri,)


def test_a_damaged_bundle_is_left_out_and_named(source: Path, store: FolderStorage):
    take(source, store, 1)
    store.write("models/defects/v20260101-000000-aaaaaa/bundle.json", b"{")
    said: list[str] = []
    (row,) = summarize(store, said.append)
    assert row.models == []
    assert "models/defects/v20260101-000000-aaaaaa/bundle.json cannot be read and is left out" in said[0]


def test_a_difference_is_counted_and_listed(source: Path, store: FolderStorage):
    first = take(source, store, 1)
    write_pair(source, "OK", 50)
    remove_pair(source, "NG", 1)
    truth = mask(True)
    truth[10, 10] = 255
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(truth))
    remove_pair(source, "OK", 3)
    write_pair(source, "NG", 77, picture=3)
    for folder, kind in (("OK", "Image"), ("OK_MSK", "Mask")):
        (source / f"{folder}/00004_OK_{kind}.png").rename(source / f"{folder}/renamed_{kind}.png")
    (source / "OK/00005_OK_Image.png").write_bytes(b"broken")
    second = take(source, store, 2)

    assert compare(store, first[:6], second[:6])[:2] == (first, second)
    changes = {change.id: change for change in compare(store, first, second)[2]}
    assert {id: change.kinds for id, change in changes.items()} == {
        "OK/00050_OK": ("added",),
        "NG/00001_NG": ("removed",),
        "NG/00003_NG": ("content",),
        "NG/00077_NG": ("content", "label"),
        "OK/renamed": ("name",),
        "OK/00005_OK": ("content", "status"),
    }
    assert changes["NG/00077_NG"].what == "was OK/00003_OK; other mask; OK → NG"
    assert changes["NG/00003_NG"].what == "other mask"
    assert "accepted → rejected: Image: The file is not a picture" in changes["OK/00005_OK"].what
    back = {change.id: change.kinds for change in compare(store, second, first)[2]}
    assert (back["OK/00050_OK"], back["NG/00001_NG"]) == (("removed",), ("added",))
    assert compare(store, first, first)[2] == []

    done = defectline("snapshots", "--store", store.root, "--diff", first[:8], second)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"from {first} to {second}"
    assert [line.split() for line in lines[1:8]] == [
        ["1", "added"],
        ["1", "removed"],
        ["3", "content"],
        ["1", "name"],
        ["1", "label"],
        ["0", "split"],
        ["1", "status"],
    ]
    assert len([line for line in lines[10:] if line.startswith(("OK/", "NG/"))]) == 6


def test_what_was_away_counts_as_removed_and_as_added_when_it_is_back(source: Path, store: FolderStorage):
    first = take(source, store, 1)
    remove_pair(source, "OK", 2)
    second = take(source, store, 2)
    assert {row.status for row in read_pairs(store, second)} == {"accepted", "absent"}
    assert [change[:2] for change in compare(store, first, second)[2]] == [("OK/00002_OK", ("removed",))]
    assert [change[:2] for change in compare(store, second, first)[2]] == [("OK/00002_OK", ("added",))]


def test_a_changed_split_is_said():
    was = Pair("OK/1", "OK", "accepted", image_sha256="i", pixel_sha256="p", split="train")
    (change,) = difference([was], [was._replace(image_sha256="j", pixel_sha256="q", split="test")])
    assert (change.kinds, change.what) == (("content", "split"), "other image; train → test")


def test_what_was_never_read_has_no_other_content():
    was = Pair("OK/1", "OK", "rejected", reason="No mask of that name.")
    (change,) = difference([was], [was._replace(status="accepted", image_sha256="i", split="train")])
    assert (change.kinds, change.what) == (("status",), "rejected → accepted, train")


def test_several_rejected_files_of_one_name_are_told_apart():
    rows = [
        Pair("OK/1", "OK", "rejected", key, reason="No mask of that name.")
        for key in ("OK/1.bmp", "OK/1.png")
    ]
    assert [change.id for change in difference([], rows)] == ["OK/1", "OK/1 (OK/1.png)"]


def test_ids_that_are_not_there_or_not_enough(source: Path, store: FolderStorage, tmp_path: Path):
    first = take(source, store, 1)
    with pytest.raises(SettingsError, match="There is no snapshot xyz") as caught:
        compare(store, first, "xyz")
    assert first in caught.value.expected
    twin = first[:4] + "0" * 12
    shutil.copytree(store.root / "snapshots" / first, store.root / "snapshots" / twin)
    copy = read_snapshot(store, first).model_copy(update={"id": twin})
    store.write(f"snapshots/{twin}/snapshot.json", copy.model_dump_json().encode())
    with pytest.raises(SettingsError, match=f"Several snapshots begin with {first[:4]}") as caught:
        compare(store, first[:4], first)
    assert twin in caught.value.expected
    with pytest.raises(SettingsError, match="There is no snapshot"):
        compare(store, "", first)


def test_a_store_without_snapshots(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no snapshots"):
        summarize(FolderStorage(tmp_path / "empty"), print)
    for place in ("empty", "missing"):
        done = defectline("snapshots", "--store", tmp_path / place)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "fix:" in done.stderr


def test_the_same_as_json(source: Path, store: FolderStorage):
    first = take(source, store, 1)
    write_pair(source, "OK", 50)
    second = take(source, store, 2)
    rows = json.loads(call("snapshots", "--store", store.root, "--json").stdout)
    assert [(row["id"], row["new"], row["newest"]) for row in rows] == [(first, 40, False), (second, 1, True)]
    found = json.loads(
        call("snapshots", "--store", store.root, "--diff", first[:8], second[:8], "--json").stdout
    )
    assert (found["before"], found["after"]) == (first, second)
    assert [(one["id"], one["kinds"]) for one in found["changes"]] == [("OK/00050_OK", ["added"])]
