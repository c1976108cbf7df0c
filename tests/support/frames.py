"""Frames that an endpoint kept for review."""

from pathlib import Path

import numpy as np
from bundles import levels
from pictures import encode, noise

from defectline.components.common.inference.class_maps import of_output
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.review import frame_id
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.serve.monitoring.review import Reviewer
from defectline.components.serve.settings import ReviewSettings

SIZE = 64
SCORES = (0.3, 0.52, 0.45, 0.7, 0.1)
"""Of the frames by number; the last one is kept by chance."""
PICTURES = [encode(noise(number, SIZE) // 4 + 90) for number in range(len(SCORES))]
IDS = [frame_id(picture) for picture in PICTURES]
FOUND = np.s_[20:30, 20:34]
"""The block that is found in those of 0.5 and more."""


def keep_frames(root: Path, classes: tuple[str, ...] = ()) -> FolderStorage:
    """A store with a frame a score, of a model with three classes or one."""
    store = FolderStorage(root)
    reviewer = Reviewer(store, "plates", ReviewSettings(review_share=1))
    for picture, score in zip(PICTURES, SCORES, strict=True):
        score_map = np.zeros((SIZE, SIZE), np.uint16)
        score_map[FOUND] = round(1000 * score)
        likely = np.zeros((SIZE, SIZE, 3), np.float32)
        likely[..., 1] = score_map / 1000
        maps = of_output(classes, likely, SIZE, SIZE) if classes else None
        found = {**to_prediction(answer(score_map, 0.5, 4, maps)), "model_version": "v1", "latency_ms": 1.0}
        assert reviewer.offer(picture, score, levels(), lambda said=found: said)
    assert reviewer.close(60)
    return store
