"""The preprocess step: the arrays that train takes, made from a snapshot."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import encode, learned_from, take, write_pair, write_source
from PIL import Image

from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.statistics import read_statistics
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.preprocess.step import preprocess

SMALL = {"image_size": 32}


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
    first = take(source, store).id
    for row in [row for row in read_pairs(store, first) if row.split == "train"][:2]:
        (source / row.image_key).unlink()
        (source / row.mask_key).unlink()
    write_pair(source, "OK", 500, picture=11)  # the same picture as another
    second = take(source, store).id
    statuses = [row.status for row in read_pairs(store, second)]
    assert (statuses.count("absent"), statuses.count("rejected")) == (2, 1)
    preprocess(str(store.root), second, tmp_path / "dataset", SMALL)
    prepared, _ = open_dataset(tmp_path / "dataset")
    wanted = [row.id for row in learned_from(store, second) if row.accepted]
    assert [row.id for row in prepared.rows] == sorted(wanted)


def test_twice_gives_the_same_bytes(store: FolderStorage, snapshot: str, tmp_path: Path):
    for name in ("one", "two"):
        preprocess(str(store.root), snapshot, tmp_path / name, SMALL | {"enhance": True})
    for file in ("images.npy", "masks.npy", "dataset.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


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


def test_a_dataset_folder_that_cannot_be_made_is_named(store: FolderStorage, snapshot: str, tmp_path: Path):
    (tmp_path / "dataset").write_text("a file")
    with pytest.raises(SystemExit) as caught:
        preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    assert caught.value.code == 2


def test_a_frame_that_cannot_be_cut_is_named(source: Path, store: FolderStorage, tmp_path: Path):
    for number in range(8):
        line = np.full((1, 300_000), number, np.uint8)
        (source / f"OK/line{number}.png").write_bytes(encode(line))
        (source / f"OK_MSK/line{number}.png").write_bytes(encode(np.zeros_like(line)))
    wrong = {"image_size": 1024, "tile": True}
    error = failure(store, take(source, store).id, tmp_path, wrong)
    assert error["what"].startswith("OK/line")
    assert "300000×1" in error["got"]


@pytest.mark.parametrize(("size", "padded"), [((60, 20), True), ((60, 60), False)])
def test_what_a_fitted_picture_does_not_fill_does_not_count(
    store: FolderStorage, tmp_path: Path, size: tuple[int, int], padded: bool
):
    source = tmp_path / "oblong"
    for path in write_source(source, range(8)).rglob("*.png"):
        with Image.open(path) as square:
            picture = square.resize(size, Image.Resampling.NEAREST)
        picture.save(path)
    taken = take(source, store).id
    preprocess(str(store.root), taken, tmp_path / "dataset", SMALL | {"resize": "fit"})
    prepared, splits = open_dataset(tmp_path / "dataset")
    assert prepared.ignores == padded
    masks = splits["train"].masks[splits["train"].rows]
    ignored = (masks == 255).reshape(len(masks), -1).mean(axis=1)
    assert np.allclose(ignored, 21 / 32 if padded else 0)
    preprocess(str(store.root), taken, tmp_path / "stretched", SMALL)
    assert not open_dataset(tmp_path / "stretched")[0].ignores


@pytest.fixture
def some_masks(source: Path, store: FolderStorage) -> str:
    """A snapshot in which three of eight NG pictures have no mask."""
    for number in range(3):
        (source / f"NG_MSK/0000{number}_NG_Mask.png").unlink()
    return take(source, store).id


def test_of_a_picture_without_a_mask_nothing_counts(store: FolderStorage, some_masks: str, tmp_path: Path):
    preprocess(str(store.root), some_masks, tmp_path / "dataset", SMALL)
    prepared, splits = open_dataset(tmp_path / "dataset")
    unmasked = [not pair.masked for pair in learned_from(store, some_masks)]
    assert sum(unmasked) in (2, 3)
    assert [not row.masked for row in prepared.rows] == unmasked
    assert (prepared.ignores, prepared.supervision) == (True, "some_masks")
    for split in splits.values():
        assert split.unmasked is not None
        assert split.unmasked.tolist() == unmasked
    masks = np.load(tmp_path / "dataset/masks.npy")
    assert not (masks == 255).any()
    assert not masks[unmasked].any()
    statistics = read_statistics([tmp_path / "dataset"])
    known = sum(row.masked and (row.label, row.split) == ("NG", "train") for row in prepared.rows)
    assert (sum(statistics.area.counts), statistics.defective) == (known, 4)


def test_where_all_have_masks_no_row_speaks_of_them(store: FolderStorage, snapshot: str, tmp_path: Path):
    preprocess(str(store.root), snapshot, tmp_path / "dataset", SMALL)
    prepared, splits = open_dataset(tmp_path / "dataset")
    assert '"masked"' not in (tmp_path / "dataset/dataset.json").read_text()
    assert (prepared.ignores, prepared.supervision) == (False, "masks")
    assert [(split.unmasked, split.outlined) for split in splits.values()] == [(None, True)] * 2


def test_pictures_without_masks_are_not_cut_into_tiles(
    source: Path, store: FolderStorage, some_masks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tiles = SMALL | {"tile": True}
    preprocess(str(store.root), some_masks, tmp_path / "dataset", tiles)
    prepared, _ = open_dataset(tmp_path / "dataset")
    masked = {pair.id for pair in learned_from(store, some_masks) if pair.masked}
    assert {row.id for row in prepared.rows} == masked
    assert (prepared.ignores, prepared.supervision) == (False, "masks")
    assert "NG pictures without masks are left out" in capsys.readouterr().out
    # What they look like, and how many they are, the line is compared with all the same.
    assert read_statistics([tmp_path / "dataset"]).defective == 4
    for folder in ("OK_MSK", "NG_MSK"):
        shutil.rmtree(source / folder)
    preprocess(str(store.root), take(source, store).id, tmp_path / "none", tiles)
    prepared, _ = open_dataset(tmp_path / "none")
    assert ({row.label for row in prepared.rows}, prepared.supervision) == ({"OK"}, "good_only")
