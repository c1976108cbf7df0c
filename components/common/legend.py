"""From the values of a mask's file to the numbers of a snapshot's classes.

A mask's file is kept as it was read: it marks defects of one class, or holds numbers that its reader knows
names for. What a value means is looked up in a table when the mask is used, so that a new class, or
another `class_map`, needs no file to be written again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import (
    DEFAULT_CLASSES,
    DEFECT,
    GOOD,
    IGNORE,
    IGNORED_CLASS,
)
from defectline.components.common.errors import SourceError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.roi import ignore_outside, load_rois
from defectline.components.common.snapshot import Pair, Snapshot
from defectline.components.common.storage import Storage


def write_legend(names: str | Sequence[str]) -> str:
    """`Pair.legend` of a mask whose values 1, 2, … have these names, or whose marked pixels all have one."""
    return json.dumps(names if isinstance(names, str) else list(names), ensure_ascii=False) if names else ""


def read_legend(legend: str) -> list[str]:
    """The names in a `Pair.legend`."""
    names = json.loads(legend) if legend else []
    return [names] if isinstance(names, str) else names


def is_numbered(pair: Pair) -> bool:
    """Whether the values of the pair's mask are the numbers of its legend, and 255 does not count."""
    return pair.legend.startswith("[")


def write_areas(values: NDArray[np.uint8], black_white: bool = False) -> str:
    """`Pair.areas` of a mask (H, W): how many pixels hold each value but GOOD.

    Of a file that is `black_white` the number of white pixels alone.
    """
    if black_white:
        return str(np.count_nonzero(values == DEFECT))
    counts = np.bincount(values.ravel(), minlength=256)
    return json.dumps({str(value): int(counts[value]) for value in np.flatnonzero(counts) if value != GOOD})


def read_areas(pair: Pair) -> dict[int, int]:
    """Pixels of each value of the pair's mask, GOOD left out."""
    # An index of before classes has the whole area alone.
    if not pair.areas:
        return {DEFECT: pair.defect_px} if pair.defect_px else {}
    return dict(_parse_areas(pair.areas))


# A pair is asked several times, and many have the same.
@lru_cache(maxsize=1 << 16)
def _parse_areas(text: str) -> dict[int, int]:
    written = json.loads(text)
    if isinstance(written, int):
        return {DEFECT: written} if written else {}
    return {int(value): count for value, count in written.items()}


def is_black_white(pair: Pair) -> bool:
    """Whether the pair's mask says which pixels are defects by white, which no number of a class is."""
    return bool(pair.areas) and not pair.areas.startswith("{")


def counted(pair: Pair, class_map: Mapping[str, str]) -> dict[str, int]:
    """The classes in the pair's mask that count, as `class_map` calls them, and their pixels."""
    found: dict[str, int] = {}
    for value, count in read_areas(pair).items():
        if value != IGNORE and (name := mapped(pair, value, class_map)) != IGNORED_CLASS:
            found[name] = found.get(name, 0) + count
    return found


def mapped(pair: Pair, value: int, class_map: Mapping[str, str]) -> str:
    """What `class_map` calls the class of a value of the pair's mask."""
    name = _name(pair, value)
    return class_map.get(name, name)


def name_values(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs with a legend where none is named and some mask holds several values: the numbers themselves.

    A mask whose defects all hold 1 and that nothing names is one of DEFAULT_CLASSES, and has no legend.
    """
    pairs = list(pairs)
    most = max((max(_values(pair), default=0) for pair in pairs if not pair.legend), default=0)
    if most <= 1:
        return pairs
    numbers = write_legend([str(value) for value in range(1, most + 1)])
    return [pair if pair.legend or not pair.accepted else pair._replace(legend=numbers) for pair in pairs]


def class_names(
    pairs: Iterable[Pair], class_map: Mapping[str, str], earlier: Sequence[str]
) -> tuple[str, ...]:
    """The classes of a snapshot: those of the `earlier` one in their order, then new ones by name.

    `pairs` are those of `name_values`.
    """
    found = {name for pair in pairs if pair.accepted for name in counted(pair, class_map)}
    known = [name for name in earlier if name in found]
    new = sorted(
        found - set(known), key=lambda name: (name.isdecimal(), name.zfill(3) if name.isdecimal() else name)
    )
    return (*known, *new) or DEFAULT_CLASSES


def class_table(pair: Pair, classes: Sequence[str], class_map: Mapping[str, str]) -> NDArray[np.uint8]:
    """uint8 (256,): which of `classes` each value of the pair's mask is; IGNORE where it does not count.

    Raises SourceError for a value whose class is not among them, which only another snapshot's pair has.
    """
    numbers = {name: number for number, name in enumerate(classes, start=1)} | {IGNORED_CLASS: IGNORE}
    table = np.full(256, IGNORE, np.uint8)
    table[GOOD] = GOOD
    for value in _values(pair):
        if (name := mapped(pair, value, class_map)) not in numbers:
            raise SourceError(
                f"The mask of {pair.id} holds a class that the snapshot does not have.",
                got=name,
                expected=", ".join(classes),
                fix="Run the pipeline again: ingest takes a new snapshot.",
            )
        table[value] = numbers[name]
    return table


def ignores(pair: Pair, class_map: Mapping[str, str]) -> bool:
    """Whether something in the pair's picture does not count."""
    return bool(pair.roi) or any(
        value == IGNORE or class_map.get(name := _name(pair, value), name) == IGNORED_CLASS
        for value in read_areas(pair)
    )


def _values(pair: Pair) -> list[int]:
    """The numbers in the pair's mask, but GOOD and IGNORE."""
    return [value for value in read_areas(pair) if value != IGNORE]


def _name(pair: Pair, value: int) -> str:
    names = json.loads(pair.legend) if pair.legend else DEFAULT_CLASSES[0]
    if isinstance(names, str):
        return names
    return names[value - 1] if value <= len(names) else str(value)


class Names(NamedTuple):
    """What the values of a snapshot's masks are, and where its pictures count."""

    classes: tuple[str, ...] = DEFAULT_CLASSES
    class_map: Mapping[str, str] = MappingProxyType({})
    rois: Mapping[str, NDArray[np.uint8]] = MappingProxyType({})
    """The regions of interest, uint8 (H, W) of 0 and 1, by `Pair.roi`."""

    @classmethod
    def of(cls, store: Storage, snapshot: Snapshot, pairs: Iterable[Pair]) -> Self:
        """Those of a snapshot and its `pairs`. Raises StoreError for a region that is lost."""
        return cls(snapshot.classes, snapshot.class_map, load_rois(store, (pair.roi for pair in pairs)))

    def truth(self, data: bytes, shape: tuple[int, ...], pair: Pair) -> NDArray[np.uint8]:
        """The mask of a picture of `shape` (H, W) from the bytes of its file: uint8 (H, W), numbers as in
        `classes.py`; nothing is marked where there is no file. Raises UnreadableImage."""
        if data:
            table = class_table(pair, self.classes, self.class_map)
            found = cv2.LUT(decode_mask(data, is_numbered(pair)), table)
        else:
            found = np.zeros(shape, np.uint8)
        return ignore_outside(found, self.rois[pair.roi]) if pair.roi else found
