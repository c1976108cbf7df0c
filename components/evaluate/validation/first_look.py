"""Whether a first look at half resolution is enough for most tiles of a product's frames."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from defectline.components.common.images.imaging import frame_grid, prepare_frame
from defectline.components.common.images.reading import decode_image
from defectline.components.common.inference.glance import AROUND_PX, Glance
from defectline.components.common.inference.inspection import LEVELS, judge
from defectline.components.common.inference.network import Network
from defectline.components.common.snapshot import Pair, read_files
from defectline.components.common.steps import track
from defectline.components.common.storage import Storage
from defectline.components.evaluate.validation.calibration import OperatingPoint

FEWEST_FOUND = 8
"""Frames with a find, of which fewer do not say what half resolution may miss."""
SAFETY = 0.5
"""Of the weakest sign of a find at half resolution: what is looked at in full begins there."""
MOST_WORK = 0.6
"""Of the tiles that all would be: a first look that takes more is not worth it."""


class FirstLook(NamedTuple):
    level: float | None
    """As in Bundle."""
    why: str


class _Frame(NamedTuple):
    """What both looks say of a validation frame."""

    glance: Glance
    signs: list[int]
    """The highest score at half resolution around each region that was found."""


def choose_first_look(
    network: Network, point: OperatingPoint, storage: Storage, pairs: Sequence[Pair]
) -> FirstLook:
    """The level for frames like those of the validation `pairs`, or None and why.

    At it, every find at the operating point of the network, which judges all tiles, is looked at in full.
    """
    frames = list(_look(network, point, storage, pairs))
    signs = [sign for frame in frames for sign in frame.signs]
    found = sum(bool(frame.signs) for frame in frames)
    if found < FEWEST_FOUND:
        return FirstLook(None, f"only {found} large validation frames have a find, {FEWEST_FOUND} are needed")
    weakest = min(signs)
    # What is not looked at in full must not reach the threshold by itself.
    level = min(int(SAFETY * weakest), round(point.threshold * LEVELS))
    if level < 1:
        return FirstLook(None, "at half resolution, not every find leaves a sign")
    size = network.imaging.image_size
    first = whole = second = 0
    for frame in frames:
        height, width = (2 * side for side in frame.glance.score_map.shape)
        places = frame_grid(height, width, network.imaging).positions
        whole += len(places)
        first += len(frame_grid(height // 2, width // 2, network.imaging).positions)
        second += sum(frame.glance._replace(level=level).suspects(y, x, size) for y, x in places)
    work = (first + second) / whole
    told = f"{work:.0%} of the tiles are judged, those of the first look included"
    if work > MOST_WORK:
        return FirstLook(None, f"it would save too little: {told}")
    return FirstLook(level / LEVELS, f"{told}; its weakest sign of a find is {weakest / LEVELS:.3f}")


def _look(
    network: Network, point: OperatingPoint, storage: Storage, pairs: Sequence[Pair]
) -> Iterator[_Frame]:
    for _, data, _ in track(read_files(storage, pairs), len(pairs), "looking at half resolution"):
        image = decode_image(data, network.imaging.channels)
        glance = network.glance(prepare_frame(image, network.imaging), 0)
        if glance is None:
            continue
        judged = judge(network.maps_of(image), point.threshold, point.min_area_px, point.ng_from)
        signs = []
        for region in judged.regions if judged.verdict != "OK" else ():
            x, y, width, height = region.bbox
            top, left = max(0, y - AROUND_PX) // 2, max(0, x - AROUND_PX) // 2
            bottom, right = (y + height + AROUND_PX) // 2 + 1, (x + width + AROUND_PX) // 2 + 1
            signs.append(int(np.max(glance.score_map[top:bottom, left:right])))
        yield _Frame(glance, signs)
