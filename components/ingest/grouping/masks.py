"""Pictures that look the same and whose masks differ: one of the two is labelled wrong."""

import base64
from collections import defaultdict
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.snapshot import Pair
from defectline.components.ingest.grouping.groups import SHOWN
from defectline.components.ingest.grouping.looks import PLAIN, Likeness
from defectline.components.ingest.grouping.twins import shared_cells

CELLS = 16
"""Parts of a picture in each direction, of which is known whether its mask marks something there."""
SAME = 0.8
"""Likeness of two pictures of which nearly all is the same: what one shows, the other shows."""
BESIDE = 0.3
"""Share of what one mask marks that is not near what the other marks, at which two masks differ."""
LARGER = 4
"""So many times the other's area make two masks differ."""
NEXT = 4
"""Pictures of a group, in the order of ids, that each is compared with."""


def describe_marks(marked: NDArray[np.bool_]) -> str:
    """Where a mask marks something, as a text for the index. `marked` is bool (H, W). Pure."""
    rows, columns = ((np.arange(size) * CELLS) // size for size in marked.shape)
    cells = np.zeros((CELLS, CELLS), bool)
    y, x = np.nonzero(marked)
    cells[rows[y], columns[x]] = True
    return base64.b64encode(np.packbits(cells).tobytes()).decode() if cells.any() else ""


def masks_differ(one: Pair, other: Pair) -> bool:
    """Whether two masks mark different places, or much more in one; False where that is not known. Without a
    mask the labels say it. Pure."""
    if not (one.masked and other.masked):
        return one.label != other.label
    if not one.defect_px or not other.defect_px:
        return one.defect_px != other.defect_px
    if not one.marks or not other.marks:
        # What an older version read.
        return False
    a, b = (_cells(pair) for pair in (one, other))
    beside = max(_share_beside(a, b), _share_beside(b, a))
    sizes = sorted(pair.defect_px / (pair.width * pair.height) for pair in (one, other))
    return beside >= BESIDE or sizes[1] >= LARGER * sizes[0]


def find_contradictions(rows: Iterable[Pair]) -> list[tuple[Pair, Pair]]:
    """Pictures of a group that look the same and have masks that differ, by id. Pure."""
    rows = sorted(row for row in rows if row.accepted)
    groups: dict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        if row.group and row.look not in ("", PLAIN):
            groups[row.group].append(row)
    suspects = [
        (one, other)
        for members in groups.values()
        for place, one in enumerate(members)
        for other in members[place + 1 : place + 1 + NEXT]
        if masks_differ(one, other)
    ]
    if not suspects:
        return []
    shared = shared_cells([row.look for row in rows if row.look not in ("", PLAIN)])
    looks = [pair.look for suspect in suspects for pair in suspect]
    likeness = Likeness(looks, shared)
    return sorted(
        suspect for place, suspect in enumerate(suspects) if likeness(2 * place, 2 * place + 1, SAME) >= SAME
    )


def tell_contradictions(found: list[tuple[Pair, Pair]]) -> str:
    """A sentence that names them."""
    few = [
        f"{one.id} ({one.defect_px:,} px) and {other.id} ({other.defect_px:,} px)"
        for one, other in found[:SHOWN]
    ]
    return (
        f"{len(found):,} × two pictures look the same and their masks differ, so that one may be wrong: "
        f"{', '.join(few)}{' …' if len(found) > SHOWN else ''}"
    )


def _cells(pair: Pair) -> NDArray[np.uint8]:
    bits = np.frombuffer(base64.b64decode(pair.marks), np.uint8)
    return np.unpackbits(bits).reshape(CELLS, CELLS)


def _share_beside(cells: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    near = cv2.dilate(others, np.ones((3, 3), np.uint8))
    return float(np.mean(near[cells > 0] == 0))
