"""What an evaluation begins with: the model's own description, and the snapshot that it is judged on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.images.roi import common_roi
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import SPLITS, Pair, Snapshot, read_pairs, read_snapshot
from defectline.components.common.storage import Storage, checksums
from defectline.components.evaluate.settings import EvaluateSettings


class Inputs(NamedTuple):
    content: dict[str, Any]
    """Of model.json."""
    imaging: ImagingSettings
    taken: Snapshot
    rows: list[Pair]
    """All of the snapshot."""
    splits: dict[str, list[Pair]]
    """Those that were accepted."""
    names: Names
    roi: NDArray[np.uint8] | None
    """The region of interest, uint8 (H, W) of 0 and 1, where all pictures have the same."""

    @property
    def used(self) -> list[Pair]:
        return [pair for pairs in self.splits.values() for pair in pairs]


def read_inputs(storage: Storage, snapshot: str, model: Path, settings: EvaluateSettings) -> Inputs:
    """Raises BundleError for a model that was changed, SettingsError for settings or a model of other classes
    than the snapshot has."""
    checksums.verify(model)
    content = json.loads((model / "model.json").read_text())
    rows = read_pairs(storage, snapshot)
    taken = read_snapshot(storage, snapshot)
    settings.check_classes(taken.classes)
    _check_classes(content, taken)
    splits = {s: [p for p in rows if p.accepted and p.split == s] for s in SPLITS}
    used = [pair for pairs in splits.values() for pair in pairs]
    names = Names.of(storage, taken, used)
    roi = common_roi(names.rois, (pair.roi for pair in used))
    return Inputs(content, ImagingSettings(**content["imaging"]), taken, rows, splits, names, roi)


def _check_classes(content: Mapping[str, Any], taken: Snapshot) -> None:
    """Raise SettingsError for a model that learned other classes than the snapshot has."""
    learned = tuple(content.get("classes", DEFAULT_CLASSES))
    if learned != taken.classes and (len(learned) > 1 or len(taken.classes) > 1):
        raise SettingsError(
            "The model was trained on other classes than the snapshot has.",
            got=", ".join(learned),
            expected=", ".join(taken.classes),
            fix="Evaluate it on the snapshot that it was trained on, or train again.",
        )
