"""What is done to each picture."""

from pathlib import Path

import numpy as np
from pictures import encode, learned_from, take, write_source

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
