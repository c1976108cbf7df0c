"""Seal what was judged: the bundle with its golden pictures, which every deployment must answer alike."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common import layout
from defectline.components.common.bundle import (
    CROSS_FIT,
    ROI,
    SERVED_SIGNATURE,
    Bundle,
    Golden,
    copy_served,
    seal_bundle,
)
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.images.reading import format_of
from defectline.components.common.inference.novelty import NAME as NOVELTY
from defectline.components.common.inference.novelty import Novelty
from defectline.components.common.prediction import VERDICTS
from defectline.components.common.storage import checksums
from defectline.components.common.trust.keys import Signer
from defectline.components.evaluate.reporting.examples import Example

GOLDEN_EACH = 2
"""Golden pictures of each verdict."""


def seal(
    model: Path,
    bundle: Path,
    draft: Bundle,
    shown: Sequence[Example],
    settings_file: bytes,
    roi: NDArray[np.uint8] | None,
    novelty: Novelty | None,
    key: Signer | None = None,
) -> Bundle:
    """Copy the model into `bundle`, add golden pictures and, where there are, the run's file of settings, the
    region of interest and what training pictures look like, seal it and, with a `key`, sign it."""
    left = (checksums.NAME, "history.png", "model.json", CROSS_FIT)
    shutil.copytree(model, bundle, ignore=shutil.ignore_patterns(*left))
    (bundle / "golden").mkdir()
    if roi is not None:
        (bundle / ROI).write_bytes(encode_mask(roi))
    if novelty is not None:
        (bundle / NOVELTY).write_bytes(novelty.dump())
    if settings_file:
        (bundle / layout.CONFIG).write_bytes(settings_file)
    # Verdicts far from a level stay what they are on every processor.
    levels = [level for level in (draft.threshold, draft.ng_from) if level is not None]
    steady = sorted(shown, key=lambda e: -min(abs(e.counted.score - level) for level in levels))
    golden = []
    for verdict in VERDICTS:
        for index, item in enumerate([c for c in steady if c.counted.verdict == verdict][:GOLDEN_EACH]):
            file = f"{verdict}-{index}{PurePosixPath(item.pair.image_key).suffix.lower()}"
            mask = f"{verdict}-{index}.mask.png"
            (bundle / "golden" / file).write_bytes(item.image)
            (bundle / "golden" / mask).write_bytes(item.found)
            golden.append(
                Golden(
                    file=file,
                    content_type=_content_type(item.image),
                    verdict=verdict,
                    score=item.counted.score,
                    mask_file=mask,
                )
            )
    sealed = seal_bundle(bundle, draft.model_copy(update={"golden": golden}))
    if key:
        sign_bundle(bundle, key)
    return sealed


def sign_bundle(bundle: Path, key: Signer) -> None:
    """Sign the sealed bundle, and what the predictor gets of it, which is another folder with other files."""
    # Imports slowly, and few have a key.
    from defectline.components.common.trust.signatures import sign

    with tempfile.TemporaryDirectory() as temporary:
        served = Path(temporary)
        copy_served(bundle, served)
        sign(served, key)
        shutil.copyfile(served / checksums.SIGNATURE, bundle / SERVED_SIGNATURE)
    checksums.seal(bundle)
    sign(bundle, key)


def import_early() -> None:
    """Import what signs in a thread: that takes longer than to sign, and pictures can be judged meanwhile."""
    threading.Thread(target=_import, daemon=True).start()


def _import() -> None:
    # Whatever is wrong with it, to sign says so.
    with contextlib.suppress(Exception):
        import model_signing.signing  # noqa: F401


def _content_type(image: bytes) -> str:
    return Image.MIME[format_of(image)]
