"""A prepared dataset: pictures as the network takes them, memory-mapped.

    images.npy      uint8 (N, S, S, C)
    masks.npy       uint8 (N, S, S), 1 where the defect is
    dataset.json    a `Prepared`

It holds the train and validation splits only: what judges the model never comes near its training.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from defectline.components.common.imaging import ImagingSettings


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    label: str
    split: str


class Prepared(BaseModel):
    """The content of dataset.json; `rows` are in the order of the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    fingerprint: str
    imaging: ImagingSettings
    rows: list[Row]


class Split(NamedTuple):
    """Rows of the arrays that belong to one split; reading a row reads it from disk."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    rows: NDArray[np.int64]


def open_dataset(folder: Path) -> tuple[Prepared, dict[str, Split]]:
    prepared = Prepared.model_validate_json((folder / "dataset.json").read_bytes())
    images = np.load(folder / "images.npy", mmap_mode="r")
    masks = np.load(folder / "masks.npy", mmap_mode="r")
    splits = np.array([row.split for row in prepared.rows])
    return prepared, {
        name: Split(images, masks, np.flatnonzero(splits == name)) for name in ("train", "validation")
    }
