"""The preprocess step as KFP runs it."""

from pathlib import Path

import numpy as np
import pytest
from kfp import dsl
from kfp.dsl import Dataset
from pictures import learned_from

from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.imaging import ImagingSettings, prepare_image, prepare_mask
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import decode_image
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.preprocess.component import preprocess as component


@pytest.mark.parametrize(
    "imaging",
    [
        {"image_size": 32, "channels": 1, "enhance": False},
        {"image_size": 32, "channels": 3, "enhance": True},
        {"image_size": 64, "channels": 1, "enhance": True, "resize": "fit"},
    ],
)
def test_the_component_writes_what_the_one_image_path_gives(
    source: Path, store: FolderStorage, snapshot: str, tmp_path: Path, imaging: dict[str, int]
):
    artifact = Dataset(name="dataset", uri=str(tmp_path / "artifacts/dataset"))
    run = dsl.component(component, base_image="preprocess", install_kfp_package=False).python_func
    others = {"resize": "stretch", "tile": False, "empty_tiles": 0.25, "shard": 0, "shards": 1}
    run(store=str(store.root), snapshot=snapshot, **{**others, **imaging}, dataset=artifact)

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
