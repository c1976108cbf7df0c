"""A prepared dataset: pictures as the network takes them, memory-mapped, in one or several shards.

A shard is a folder:

    images.npy      uint8 (N, S, S, C)
    masks.npy       uint8 (N, S, S), 0 good, 1 to K the classes, 255 does not count; where the label
                    alone is known, 0 is not known
    dataset.json    a `Prepared`
    statistics.json what the shard's training pictures look like

It holds the train and validation splits only: what judges the model never comes near its training.
Shards are cut from the list of pictures sorted by id, so that, one after another, they hold the same bytes
however many there are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from defectline.components.common.classes import DEFAULT_CLASSES, Supervision
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.imaging import ImagingSettings


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    label: str
    split: str
    tile: tuple[int, int] | None = None
    """(y, x) of the tile's upper left corner in the picture; None where the row is the whole picture."""
    masked: bool = Field(default=True, exclude_if=bool)
    """False where it is NG and nothing says which pixels are defects."""
    group: str = Field(default="", exclude_if=lambda group: not group)
    """What the picture shares with others of the same part; "" where it stands alone."""


class Prepared(BaseModel):
    """The content of dataset.json; `rows` are in the order of the arrays: by id, then by tile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    fingerprint: str
    imaging: ImagingSettings
    classes: tuple[str, ...] = DEFAULT_CLASSES
    """The names of the masks' numbers 1 to K."""
    ignores: bool = False
    """Whether a mask may hold 255."""
    supervision: Supervision = "masks"
    """What can be learned from the pictures of the train split."""
    empty_tiles: float | None = None
    """Share of the tiles without a defect that were kept; None without tiles."""
    shard: int = 0
    shards: int = 1
    rows: list[Row]


class ConcatenatedArray:
    """Arrays on disk, one below another, as one array (N, …) whose rows are read when they are asked for."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of one row, or of several in the order of `rows`, all from 0 to N - 1."""
        wanted = np.asarray(rows)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows from {wanted.min()} to {wanted.max()} of {len(self)}")
        found = np.empty((*wanted.shape, *self.shape[1:]), self.dtype)
        where = np.searchsorted(self.ends, wanted, side="right")
        for index in np.unique(where):
            here, part = where == index, self.parts[index]
            found[here] = part[wanted[here] - (self.ends[index] - len(part))]
        return found


class Split(NamedTuple):
    """Rows of the arrays that belong to one split; reading a row reads it from disk."""

    images: ConcatenatedArray
    masks: ConcatenatedArray
    rows: NDArray[np.int64]
    unmasked: NDArray[np.bool_] | None = None
    """(N,), of all rows of the arrays: True where the label alone, NG, is known; None where that is nowhere
    so."""
    outlined: bool = True
    """Whether its IoU says something: False where NG pictures have no masks, but for one at most."""


def open_dataset(folders: Path | Sequence[Path]) -> tuple[Prepared, dict[str, Split]]:
    """All shards of a dataset as one, whatever the order of `folders`; nothing is copied into memory.

    Raises SettingsError where a shard is missing, is there twice or belongs to another dataset, and where
    the arrays are not of the size that their settings state.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    read = [(Prepared.model_validate_json((f / "dataset.json").read_bytes()), f) for f in folders]
    read.sort(key=lambda item: item[0].shard)
    shards = [prepared for prepared, _ in read]
    _check_complete(shards)
    images, masks = (
        ConcatenatedArray([np.load(folder / name, mmap_mode="r") for _, folder in read])
        for name in ("images.npy", "masks.npy")
    )
    rows = [row for shard in shards for row in shard.rows]
    _check_size(images, masks, len(rows), shards[0].imaging)
    whole = shards[0].model_copy(update={"shard": 0, "shards": 1, "rows": rows})
    splits = np.array([row.split for row in rows], dtype=str)
    unmasked = np.array([not row.masked for row in rows], dtype=bool)
    return whole, {
        name: Split(
            images,
            masks,
            np.flatnonzero(splits == name),
            unmasked if unmasked.any() else None,
            _is_outlined([row for row in rows if (row.split, row.label) == (name, "NG")]),
        )
        for name in ("train", "validation")
    }


def _is_outlined(bad: Sequence[Row]) -> bool:
    masked = {row.id for row in bad if row.masked}
    return len(masked) > 1 or (bool(bad) and all(row.masked for row in bad))


def _check_complete(shards: Sequence[Prepared]) -> None:
    """Raise SettingsError unless these are all the shards of one dataset, in order."""
    alike = {shard.model_copy(update={"shard": 0, "rows": []}).model_dump_json() for shard in shards}
    if len(alike) != 1 or [shard.shard for shard in shards] != list(range(shards[0].shards)):
        found = ", ".join(f"{s.shard + 1} of {s.shards} from snapshot {s.snapshot}" for s in shards)
        raise SettingsError(
            "The shards do not make one dataset.",
            got=found or "no shard",
            expected="every shard of one snapshot, once, prepared with the same settings",
            fix="Name the folders of all shards that one run of preprocess wrote.",
        )


def _check_size(
    images: ConcatenatedArray, masks: ConcatenatedArray, count: int, imaging: ImagingSettings
) -> None:
    """Raise SettingsError unless the arrays hold `count` pictures and masks of the settings' size."""
    size, channels = imaging.image_size, imaging.channels
    found, wanted = (images.shape, masks.shape), ((count, size, size, channels), (count, size, size))
    if found != wanted:
        raise SettingsError(
            "The arrays of the prepared dataset are not what its settings state.",
            got=f"images {found[0]}, masks {found[1]}",
            expected=f"images {wanted[0]}, masks {wanted[1]}",
            fix="Run preprocess again.",
        )
