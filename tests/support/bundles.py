"""A tiny sealed bundle, for tests that need one but no network that computes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from defectline.components.common.bundle import Bundle, Data, Golden, seal_bundle
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.records import ChampionRecord
from defectline.components.common.storage import Storage

SIZE = 64


def put_champion(store: Storage) -> ChampionRecord:
    """Make a version the champion of this machine, of which there is no bundle."""
    champion = ChampionRecord(version="v20250101-000000-former", run="zero")
    store.write("models/defects/current.json", champion.model_dump_json().encode())
    return champion


def levels(
    threshold: float = 0.5,
    good: Sequence[float] = (),
    bad: Sequence[float] = (),
    ng_from: float | None = None,
) -> Bundle:
    """What a bundle says of verdicts, without its files; `good` and `bad` are validation pictures' scores."""
    scores = {label: tuple(sorted(some)) for label, some in (("OK", good), ("NG", bad)) if some}
    return Bundle(
        version="v1",
        name="plates",
        created="",
        imaging=ImagingSettings(image_size=SIZE),
        threshold=threshold,
        ng_from=ng_from,
        min_area_px=4,
        validation_scores=scores,
        metrics={},
        data=Data(snapshot="snapshots/tiny", fingerprint="", pairs={}),
        training={},
        golden=[],
    )


def make_bundle(folder: Path, name: str = "defects", seed: int = 0) -> Bundle:
    """Write a sealed bundle into the new folder `folder`.

    It has every file that the predictor reads, though no OpenVINO could load them, and one OK and one
    NG golden picture (64×64, grey PNG). Other seeds give other pictures, so other versions.
    """
    rng = np.random.default_rng(seed)
    for part in ("openvino", "onnx", "golden"):
        (folder / part).mkdir(parents=True)
    (folder / "openvino/model.xml").write_text(f"<net name='seed-{seed}'/>\n")
    (folder / "openvino/model.bin").write_bytes(rng.bytes(256))
    (folder / "onnx/model.onnx").write_bytes(rng.bytes(256))
    draft = Bundle(
        version="",
        name=name,
        created="",
        imaging=ImagingSettings(image_size=SIZE),
        threshold=0.5,
        min_area_px=4,
        metrics={"test": {"iou": 0.81, "escape": 0.0, "overkill": 0.0}},
        data=Data(
            snapshot="snapshots/tiny",
            fingerprint=f"{seed:064x}",
            pairs={"train": 6, "validation": 4, "test": 4},
        ),
        training={"epochs": 1, "seed": seed},
        golden=[_golden(folder / "golden", rng, "OK", 0.031), _golden(folder / "golden", rng, "NG", 0.964)],
    )
    return seal_bundle(folder, draft)


def _golden(folder: Path, rng: np.random.Generator, verdict: str, score: float) -> Golden:
    """Save a picture of noise, with a bright scratch where it is NG, and its mask."""
    picture = rng.integers(90, 120, (SIZE, SIZE), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if verdict == "NG":
        row = int(rng.integers(8, SIZE - 8))
        mask[row : row + 3, 10:50] = 1
        picture[mask == 1] = 250
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    (folder / f"{verdict}.png").write_bytes(encoded.getvalue())
    (folder / f"{verdict}_mask.png").write_bytes(encode_mask(mask))
    return Golden(
        file=f"{verdict}.png",
        content_type="image/png",
        verdict=verdict,
        score=score,
        mask_file=f"{verdict}_mask.png",
    )
