"""A source of one class gives the snapshot, splits and packs that it gave before there were classes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import SHARED
from pictures import QUARANTINE, mask, noise
from PIL import Image

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot


def write(source: Path) -> Path:
    """Good pictures, defects, and one of each fault: as BMP, whose bytes no library's version changes."""

    def put(key: str, pixels: NDArray[np.uint8]) -> None:
        path = source / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for number in range(20):
        put(f"OK/{number:02}_OK_Image.bmp", noise(number))
        put(f"OK_MSK/{number:02}_OK_Mask.bmp", mask(False))
    for number in range(14):
        put(f"NG/{number:02}_NG_Image.bmp", noise(100 + number))
        put(f"NG_MSK/{number:02}_NG_Mask.bmp", mask(True) // (255 if number % 2 else 1))
    smooth = mask(True)
    smooth[3, 4:7], smooth[7, 4:7] = 90, 200
    for key, picture, truth in (
        ("OK/dup", noise(3), mask(False)),
        ("NG/empty", noise(200), mask(False)),
        ("NG/inverted", noise(201), 255 - mask(True)),
        ("OK/marked", noise(202), mask(True)),
        ("NG/size", noise(203), mask(True, 32)),
        ("OK/sub/deep", noise(205), mask(False)),
        ("NG/smooth", noise(207), smooth),
    ):
        put(f"{key}.bmp", picture)
        put(f"{key[:2]}_MSK{key[2:]}_mask.bmp", truth)
    put("elsewhere.bmp", noise(206))
    return source


def state(source: Path, store: FolderStorage) -> tuple[str, str, str, list[str]]:
    """The snapshot's id and fingerprint, a digest of its splits, and its packs."""
    snapshot = take_snapshot(
        FolderStorage(source), store, QUARANTINE, IngestSettings(max_rejected=0.5)
    ).snapshot
    assert (snapshot.classes, snapshot.class_map) == (DEFAULT_CLASSES, {})
    splits = "\n".join(f"{row.id} {row.split}" for row in read_pairs(store, snapshot.id))
    packs = sorted(path.stem for path in (store.root / "snapshots/packs").iterdir())
    return snapshot.id, snapshot.fingerprint[:16], hashlib.sha256(splits.encode()).hexdigest()[:16], packs


def test_a_source_of_every_fault(tmp_path: Path, store: FolderStorage):
    assert state(write(tmp_path / "source"), store) == (
        "ab6e61ee4cfecbdc",
        "30cf7060112e6fad",
        "28bb473ed181cede",
        ["0f5578c234e3a79a"],
    )


@pytest.mark.skipif(not (SHARED / "data/lgp").is_dir(), reason="the light guide plates are not here")
def test_light_guide_plates(store: FolderStorage):
    assert state(SHARED / "data/lgp", store) == (
        "e87ab329efd0b2a8",
        "69a3add1e22788e5",
        "ecf0877fa15ac707",
        ["0c160935d7415663"],
    )
