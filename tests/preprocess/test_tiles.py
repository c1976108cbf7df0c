"""Large frames in tiles."""

from pathlib import Path

import numpy as np
from networks import write_source as write_large
from pictures import learned_from, take

from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.imaging import ImagingSettings, enhance, frame_grid
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import decode_image
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.preprocess.step import preprocess
from defectline.components.preprocess.tiles import tiles_with_defects

SMALL = {"image_size": 32}


def test_large_frames_are_cut_into_tiles_at_full_resolution(store: FolderStorage, tmp_path: Path):
    large = write_large(tmp_path / "large", pairs=20, size=80)
    snapshot = take(large, store).id
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
