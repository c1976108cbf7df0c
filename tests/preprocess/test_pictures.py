"""What is done to each picture."""

from pathlib import Path

import numpy as np
from kinds import CLASSES, snapshot_of_kinds, write_kinds
from pictures import encode, learned_from, take, write_source
from PIL import Image

from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.imaging import prepare_image
from defectline.components.common.images.reading import decode_image
from defectline.components.common.images.statistics import read_statistics
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.preprocess.step import preprocess

SMALL = {"image_size": 32}


def test_the_dataset_does_not_depend_on_how_pictures_lie_in_packs(
    source: Path, store: FolderStorage, tmp_path: Path
):
    take(source, store)
    write_source(source, range(20, 24))
    grown = take(source, store).id  # two packs, the second with names among those of the first
    preprocess(str(store.root), grown, tmp_path / "grown", SMALL)

    rows = read_pairs(store, grown)
    assert len({row.pack for row in rows}) == 2
    prepared, splits = open_dataset(tmp_path / "grown")
    assert [row.id for row in prepared.rows] == sorted(row.id for row in prepared.rows)
    by_id = {row.id: row for row in rows}
    for index, row in enumerate(prepared.rows):
        image = decode_image((source / by_id[row.id].image_key).read_bytes())
        assert np.array_equal(splits["train"].images[index], prepare_image(image, prepared.imaging))


def test_pictures_of_different_sizes_are_brought_to_one(source: Path, store: FolderStorage, tmp_path: Path):
    for number, (height, width) in enumerate([(16, 40), (100, 33), (1, 1)]):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)
        (source / f"OK/odd{number}.png").write_bytes(encode(pixels))
        (source / f"OK_MSK/odd{number}.png").write_bytes(encode(np.zeros_like(pixels)))
    preprocess(str(store.root), take(source, store).id, tmp_path / "dataset", SMALL)
    _, splits = open_dataset(tmp_path / "dataset")
    assert splits["train"].images.shape[1:] == (32, 32, 1)


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


def test_masks_hold_the_numbers_of_classes_and_what_does_not_count(tmp_path: Path):
    source = write_kinds(tmp_path / "source")
    snapshot = snapshot_of_kinds(source, tmp_path / "store")
    whole, tiles = tmp_path / "whole", tmp_path / "tiles"
    preprocess(str(tmp_path / "store"), snapshot, whole, {"image_size": 64})
    preprocess(str(tmp_path / "store"), snapshot, tiles, SMALL | {"tile": True, "empty_tiles": 0.0})
    prepared, splits = open_dataset(whole)
    assert (prepared.classes, prepared.ignores) == (CLASSES, True)
    keys = {row.id: row.mask_key for row in read_pairs(FolderStorage(tmp_path / "store"), snapshot)}
    for index, row in enumerate(prepared.rows):
        truth = np.asarray(Image.open(source / keys[row.id]))
        assert np.array_equal(splits["train"].masks[index], truth)
    cut, parts = open_dataset(tiles)
    masks = [parts["train"].masks[index] for index, row in enumerate(cut.rows) if row.label == "NG"]
    assert set(np.unique(masks)) == {0, 1, 2, 3, 255}
    # A tile is kept for a defect, not for what does not count.
    assert all(np.any((mask > 0) & (mask < 255)) for mask in masks)
    area = read_statistics([whole]).area
    assert area == read_statistics([tiles]).area
    learned = [row for row in read_pairs(FolderStorage(tmp_path / "store"), snapshot) if row.split == "train"]
    drawn = [72 * (3 if "255" in row.areas else 1) for row in learned if row.label == "NG"]
    assert area.counts == tuple(np.histogram(drawn, area.edges)[0])


def test_class_map_merges_and_ignores_classes(tmp_path: Path):
    source = write_kinds(tmp_path / "source")
    snapshot = snapshot_of_kinds(source, tmp_path / "store", scratch="dent", stain="ignore")
    preprocess(str(tmp_path / "store"), snapshot, tmp_path / "dataset", {"image_size": 64})
    prepared, splits = open_dataset(tmp_path / "dataset")
    assert (prepared.classes, prepared.ignores) == (("dent",), True)
    assert set(np.unique(splits["train"].masks[np.arange(len(prepared.rows))])) == {0, 1, 255}
