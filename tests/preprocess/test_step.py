"""Preprocess: the arrays that train takes, made from a snapshot."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kfp import dsl
from kfp.dsl import Dataset
from networks import write_source as write_large
from pictures import encode, write_pair, write_source

from defectline.components.common.dataset import open_dataset
from defectline.components.common.errors import StoreError
from defectline.components.common.imaging import (
    ImagingSettings,
    UnreadableImage,
    decode_image,
    decode_mask,
    enhance,
    frame_grid,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.statistics import read_statistics
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.preprocess import workers
from defectline.components.preprocess.arrays import Arrays
from defectline.components.preprocess.component import preprocess as component
from defectline.components.preprocess.step import preprocess
from defectline.components.preprocess.tiles import tiles_with_defects
from defectline.components.preprocess.workers import Workers

SMALL = {"image_size": 32}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(8))


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def snapshot(source: Path, store: FolderStorage) -> str:
    return take(source, store)


def take(source: Path, store: FolderStorage) -> str:
    return take_snapshot(FolderStorage(source), store, 0.1, "runs/r/quarantine.csv").id


def learned_from(store: FolderStorage, snapshot: str) -> list[Pair]:
    return [row for row in read_pairs(store, snapshot) if row.split in ("train", "validation")]


@pytest.mark.parametrize(
    "imaging",
    [
        {"image_size": 32, "channels": 1, "enhance": False},
        {"image_size": 32, "channels": 3, "enhance": True},
        {"image_size": 64, "channels": 1, "enhance": True},
    ],
)
def test_the_component_writes_what_the_one_image_path_gives(
    source: Path, store: FolderStorage, snapshot: str, tmp_path: Path, imaging: dict[str, int]
):
    artifact = Dataset(name="dataset", uri=str(tmp_path / "artifacts/dataset"))
    run = dsl.component(component, base_image="preprocess", install_kfp_package=False).python_func
    others = {"tile": False, "empty_tiles": 0.25, "shard": 0, "shards": 1}
    run(store=str(store.root), snapshot=snapshot, **imaging, **others, dataset=artifact)

    settings = ImagingSettings(**imaging)
    rows = learned_from(store, snapshot)
    prepared, splits = open_dataset(Path(artifact.path))
    assert (prepared.snapshot, prepared.imaging) == (snapshot, settings)
    assert [row.id for row in prepared.rows] == sorted(row.id for row in rows)
    for name, split in splits.items():
        assert sorted(prepared.rows[i].id for i in split.rows) == [r.id for r in rows if r.split == name]
        for part in (*split.images.parts, *split.masks.parts):
            assert isinstance(part, np.memmap)
    images, masks, size = splits["train"].images, splits["train"].masks, settings.image_size
    assert (images.dtype, images.shape) == (np.uint8, (12, size, size, settings.channels))
    assert (masks.dtype, masks.shape) == (np.uint8, (12, size, size))
    for index, row in enumerate(rows):
        image = decode_image((source / row.image_key).read_bytes(), settings.channels)
        truth = decode_mask((source / row.mask_key).read_bytes())
        assert np.array_equal(images[index], prepare_image(image, settings))
        assert np.array_equal(masks[index], prepare_mask(truth, settings))
        assert masks[index].max() == (row.label == "NG")


def test_the_test_split_never_comes_near(store: FolderStorage, snapshot: str, tmp_path: Path):
    preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    prepared, splits = open_dataset(tmp_path / "dataset")
    tested = {row.id for row in read_pairs(store, snapshot) if row.split == "test"}
    assert len(tested) == 4
    assert not tested & {row.id for row in prepared.rows}
    both = np.concatenate([splits["train"].rows, splits["validation"].rows])
    assert sorted(both) == list(range(12))


def test_rejected_and_absent_pairs_stay_out(source: Path, store: FolderStorage, tmp_path: Path):
    write_source(source, range(10, 20))
    first = take(source, store)
    for row in [row for row in read_pairs(store, first) if row.split == "train"][:2]:
        (source / row.image_key).unlink()
        (source / row.mask_key).unlink()
    write_pair(source, "OK", 500, picture=11)  # the same picture as another
    second = take(source, store)
    statuses = [row.status for row in read_pairs(store, second)]
    assert (statuses.count("absent"), statuses.count("rejected")) == (2, 1)
    preprocess(str(store.root), second, tmp_path / "dataset", SMALL)
    prepared, _ = open_dataset(tmp_path / "dataset")
    wanted = [row.id for row in learned_from(store, second) if row.accepted]
    assert [row.id for row in prepared.rows] == sorted(wanted)


def test_the_dataset_does_not_depend_on_how_pictures_lie_in_packs(
    source: Path, store: FolderStorage, tmp_path: Path
):
    take(source, store)
    write_source(source, range(20, 24))
    grown = take(source, store)  # two packs, the second with names among those of the first
    preprocess(str(store.root), grown, tmp_path / "grown", SMALL)

    rows = read_pairs(store, grown)
    assert len({row.pack for row in rows}) == 2
    prepared, splits = open_dataset(tmp_path / "grown")
    assert [row.id for row in prepared.rows] == sorted(row.id for row in prepared.rows)
    by_id = {row.id: row for row in rows}
    for index, row in enumerate(prepared.rows):
        image = decode_image((source / by_id[row.id].image_key).read_bytes())
        assert np.array_equal(splits["train"].images[index], prepare_image(image, prepared.imaging))


def test_twice_gives_the_same_bytes(store: FolderStorage, snapshot: str, tmp_path: Path):
    for name in ("one", "two"):
        preprocess(str(store.root), snapshot, tmp_path / name, SMALL | {"enhance": True})
    for file in ("images.npy", "masks.npy", "dataset.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_pictures_of_different_sizes_are_brought_to_one(source: Path, store: FolderStorage, tmp_path: Path):
    for number, (height, width) in enumerate([(16, 40), (100, 33), (1, 1)]):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)
        (source / f"OK/odd{number}.png").write_bytes(encode(pixels))
        (source / f"OK_MSK/odd{number}.png").write_bytes(encode(np.zeros_like(pixels)))
    preprocess(str(store.root), take(source, store), tmp_path / "dataset", SMALL)
    _, splits = open_dataset(tmp_path / "dataset")
    assert splits["train"].images.shape[1:] == (32, 32, 1)


def test_it_says_what_it_did(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(tmp_path))
    preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL | {"enhance": True})
    assert (
        json.loads((tmp_path / "preprocess.json").read_text())["summary"]
        == "12 pictures at 32×32×1, enhanced"
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards=st.integers(1, 15), enhance=st.booleans(), tile=st.booleans())
def test_shards_one_after_another_are_the_whole_byte_for_byte(
    store: FolderStorage, snapshot: str, shards: int, enhance: bool, tile: bool
):
    """With more shards than pictures some are empty."""
    imaging = {"image_size": 32, "enhance": enhance, "tile": tile}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, str(shard)) for shard in range(shards)]
        for shard, folder in enumerate(folders):
            preprocess(str(store.root), snapshot, folder, imaging, shard, shards)
        preprocess(str(store.root), snapshot, Path(temporary, "whole"), imaging)
        for file in ("images.npy", "masks.npy"):
            parts = np.concatenate([np.load(folder / file) for folder in folders])
            np.testing.assert_array_equal(parts, np.load(Path(temporary, "whole", file)))
        assert open_dataset(folders)[0] == open_dataset(Path(temporary, "whole"))[0]
        assert read_statistics(folders) == read_statistics([Path(temporary, "whole")])


def test_a_shard_that_is_none_is_refused(store: FolderStorage, snapshot: str, tmp_path: Path):
    for shard, shards in ((3, 3), (-1, 2), (0, 0)):
        with pytest.raises(SystemExit) as caught:
            preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL, shard, shards)
        assert caught.value.code == 2


def test_shards_report_beside_each_other(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(tmp_path))
    for shard in range(2):
        preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL, shard, 2)
    reports = [json.loads((tmp_path / f"preprocess-{shard}.json").read_text()) for shard in range(2)]
    assert [(r["step"], r["summary"]) for r in reports] == [("preprocess", "6 pictures at 32×32×1")] * 2


def test_large_frames_are_cut_into_tiles_at_full_resolution(store: FolderStorage, tmp_path: Path):
    large = write_large(tmp_path / "large", pairs=20, size=80)
    snapshot = take(large, store)
    imaging = ImagingSettings(image_size=32, enhance=True, tile=True)
    settings = imaging.model_dump() | {"empty_tiles": 0.1}
    preprocess(str(store.root), snapshot, tmp_path / "dataset", settings)
    prepared, splits = open_dataset(tmp_path / "dataset")
    rows = {row.id: row for row in learned_from(store, snapshot)}
    assert (prepared.imaging, prepared.empty_tiles) == (imaging, 0.1)
    assert {row.id for row in prepared.rows} == set(rows)
    assert [(r.id, r.tile) for r in prepared.rows] == sorted((r.id, r.tile) for r in prepared.rows)
    for index, row in enumerate(prepared.rows):
        assert row.tile is not None
        (y, x), pair = row.tile, rows[row.id]
        frame = enhance(decode_image((large / pair.image_key).read_bytes()))
        truth = decode_mask((large / pair.mask_key).read_bytes())
        here = np.s_[y : y + 32, x : x + 32]
        np.testing.assert_array_equal(splits["train"].images[index], frame[here])
        np.testing.assert_array_equal(splits["train"].masks[index], truth[here])
    for pair in rows.values():
        truth = decode_mask((large / pair.mask_key).read_bytes())
        wanted = set(tiles_with_defects(frame_grid(80, 80, imaging), truth))
        kept = {row.tile for row in prepared.rows if row.id == pair.id}
        assert wanted <= kept
        assert kept
    assert len(prepared.rows) < 9 * len(rows)


def test_small_frames_are_reflected_into_one_tile(store: FolderStorage, snapshot: str, tmp_path: Path):
    preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL | {"tile": True})
    prepared, splits = open_dataset(tmp_path / "dataset")
    assert [row.tile for row in prepared.rows] == [(0, 0)] * 12
    picture = splits["train"].images[0][..., 0]
    np.testing.assert_array_equal(picture, np.pad(picture[:16, :16], (0, 16), "reflect")[:32, :32])


def test_statistics_are_those_of_the_raw_training_pictures(
    source: Path, store: FolderStorage, snapshot: str, tmp_path: Path
):
    preprocess(str(store.root), snapshot, tmp_path / "plain", SMALL)
    preprocess(str(store.root), snapshot, tmp_path / "other", SMALL | {"enhance": True, "tile": True})
    found = read_statistics([tmp_path / "plain"])
    assert found == read_statistics([tmp_path / "other"])
    rows = [row for row in learned_from(store, snapshot) if row.split == "train"]
    pixels = [decode_image((source / row.image_key).read_bytes()) for row in rows]
    assert (found.pictures, found.defective) == (len(rows), sum(row.label == "NG" for row in rows))
    brightness, _ = np.histogram([p.mean() for p in pixels], found.brightness.edges)
    contrast, _ = np.histogram([p.std() for p in pixels], found.contrast.edges)
    area, _ = np.histogram([row.defect_px for row in rows if row.defect_px], found.area.edges)
    assert (brightness.tolist(), contrast.tolist(), area.tolist()) == (
        [*found.brightness.counts],
        [*found.contrast.counts],
        [*found.area.counts],
    )


def test_a_frame_that_cannot_be_cut_is_named(source: Path, store: FolderStorage, tmp_path: Path):
    for number in range(8):
        line = np.full((1, 300_000), number, np.uint8)
        (source / f"OK/line{number}.png").write_bytes(encode(line))
        (source / f"OK_MSK/line{number}.png").write_bytes(encode(np.zeros_like(line)))
    wrong = {"image_size": 1024, "tile": True}
    error = failure(store, take(source, store), tmp_path, wrong)
    assert error["what"].startswith("OK/line")
    assert "300000×1" in error["got"]


def failure(store: FolderStorage, snapshot: str, folder: Path, settings: dict[str, object]) -> dict[str, str]:
    """What a step that must fail writes for the person who started it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECTLINE_REPORTS", str(folder))
        with pytest.raises(SystemExit) as caught:
            preprocess(str(store.root), snapshot, folder / "dataset", settings)
    assert caught.value.code == 2
    assert not (folder / "dataset/dataset.json").exists()
    return json.loads((folder / "error.json").read_text())


@pytest.mark.parametrize(
    ("settings", "what", "got"),
    [
        ({"image_size": 100}, "image_size", "100"),
        ({"channels": 2}, "channels", "2"),
        ({"empty_tiles": 1.5}, "empty_tiles", "1.5"),
    ],
)
def test_wrong_settings_are_named(
    store: FolderStorage, tmp_path: Path, settings: dict[str, object], what: str, got: str
):
    error = failure(store, "0123", tmp_path, settings)
    assert (error["what"], error["got"]) == (f"The setting {what} is wrong.", got)


def test_a_setting_that_there_is_not_is_named(store: FolderStorage, tmp_path: Path):
    error = failure(store, "0123", tmp_path, {"enhanced": True})
    assert error["what"] == "There is no setting enhanced."
    assert "enhance" in error["fix"]


def test_a_lost_snapshot_or_pack_is_named(store: FolderStorage, snapshot: str, tmp_path: Path):
    assert "no snapshot 0123" in failure(store, "0123", tmp_path, SMALL)["what"]
    (pack,) = store.list("snapshots/packs/")
    store.delete(pack.key)
    assert pack.key in failure(store, snapshot, tmp_path, SMALL)["got"]


def test_a_dataset_that_was_not_finished_is_not_taken_for_an_older_one(
    store: FolderStorage, snapshot: str, tmp_path: Path
):
    preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    (pack,) = store.list("snapshots/packs/")
    store.delete(pack.key)
    with pytest.raises(SystemExit):
        preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    assert not (tmp_path / "dataset/dataset.json").exists()


def test_a_disk_that_is_too_small_is_named_before_the_work(tmp_path: Path):
    with pytest.raises(StoreError, match="does not fit") as caught:
        Arrays.new(tmp_path / "dataset", 10**12, ImagingSettings(image_size=2048))
    assert "MB free" in caught.value.got
    assert not list((tmp_path / "dataset").iterdir())


def test_a_dataset_folder_that_cannot_be_made_is_named(store: FolderStorage, snapshot: str, tmp_path: Path):
    (tmp_path / "dataset").write_text("a file")
    with pytest.raises(SystemExit) as caught:
        preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    assert caught.value.code == 2


def test_no_more_than_a_window_of_jobs_waits():
    taken = 0

    def items():
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    with Workers(largest_px=1, all_px=1) as workers:
        for done, (item, value) in enumerate(workers.map(str, items())):
            assert (item, value) == (done, str(done))
            assert taken <= done + 2 * workers.count
    assert taken == 50


def test_worker_processes_write_what_threads_write(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    preprocess(str(store.root), snapshot, tmp_path / "threads", SMALL)
    monkeypatch.setattr(workers, "SMALL_PX", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with Workers(1, 1) as pool:
        assert os.getpid() not in {pid for _, pid in pool.map(eval, ["__import__('os').getpid()"] * 4)}
    preprocess(str(store.root), snapshot, tmp_path / "processes", SMALL)
    for file in ("images.npy", "masks.npy", "statistics.json", "dataset.json"):
        assert (tmp_path / "threads" / file).read_bytes() == (tmp_path / "processes" / file).read_bytes()


def test_an_error_of_a_worker_process_comes_through_whole(
    store: FolderStorage, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "SMALL_PX", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with Workers(1, 1) as pool, pytest.raises(UnreadableImage, match="no picture") as caught:
        list(pool.map(decode_image, [b"text"]))
    assert caught.value.got == "4 bytes that start with b'text'"
    assert caught.value.fix == "Remove the file, or save it as PNG."


@pytest.mark.slow
def test_worker_processes_end_when_the_step_is_killed(tmp_path: Path):
    code = """
import time
from defectline.components.preprocess.workers import Workers
with Workers(1, 10**9) as workers:
    for _, pid in workers.map(process, range(2)):
        print(pid, flush=True)
    time.sleep(600)
"""
    program = tmp_path / "program.py"
    parts = "import os\n\ndef process(_):\n    return os.getpid()\n\nif __name__ == '__main__':\n"
    program.write_text(parts + textwrap.indent(code, "    "))
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        children = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
