"""Good pictures without masks, and masks that were smoothed, give every step the same truth as exact ones."""

from pathlib import Path

import numpy as np
from networks import LIMITS, write_model, write_source
from PIL import Image

from defectline.components.common.bundle import read_bundle
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess

IMAGING = {"image_size": 32, "channels": 1, "enhance": False}


def test_all_readers_see_the_same_truth(tmp_path: Path):
    source, exact = write_source(tmp_path / "source"), str(tmp_path / "exact")
    first = ingest(str(source), exact, "one")
    for path in sorted((source / "OK_MSK").iterdir())[3:]:
        path.unlink()
    for path in (source / "NG_MSK").iterdir():
        Image.open(path).save(path, "JPEG", quality=95)
    loose = str(tmp_path / "loose")
    second = ingest(str(source), loose, "one", settings={"masks": "ng_only"})

    rows = [read_pairs(open_storage(store), id) for store, id in ((exact, first), (loose, second))]
    assert [(row.id, row.split, row.defect_px) for row in rows[1]] == [
        (row.id, row.split, row.defect_px) for row in rows[0]
    ]
    assert sum(bool(row.note) for row in rows[1]) == 20
    assert sum(not row.mask_key for row in rows[1]) == 17

    model = write_model(tmp_path / "model")
    arrays, metrics, golden = [], [], []
    for store, snapshot in ((exact, first), (loose, second)):
        dataset, bundle = Path(store, "dataset"), Path(store, "bundle")
        preprocess(store, snapshot, dataset, IMAGING)
        arrays.append([np.load(dataset / name) for name in ("images.npy", "masks.npy")])
        result = evaluate(store, snapshot, model, bundle, Path(store, "report.html"), LIMITS, "one")
        metrics.append(result.metrics)
        golden.append([(item.verdict, item.score) for item in read_bundle(bundle).golden])
    for one, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert metrics[0] == metrics[1]
    assert metrics[0]["test"]["ng"] == 4
    assert golden[0] == golden[1]
