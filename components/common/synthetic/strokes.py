"""The shapes of thin defects: each draws how strong the defect is where, float32 (H, W) of 0 to 1."""

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic.fields import Field, angle, blurred, log_uniform

STEP_PX = 2.0
"""From one point of a path to the next."""
PIECES = 10
"""A stroke has at most so many strengths and widths along its way."""

Path = NDArray[np.float64]
"""(N, 2): x and y of points."""


def scratch(random: np.random.Generator, size: int, area: float) -> Field:
    """One to several strokes side by side, straight or slightly bent, interrupted or not."""
    width = _width(random, size)
    length = min(max(area / width, 4), 1.2 * size)
    path = _path(random, length, turn=log_uniform(random, 0.01, 1.5), jitter=0.02)
    paths = [path]
    if random.random() < 0.3:
        apart = log_uniform(random, 1.5, size / 12)
        across = np.array([-1, 1]) * (path[-1] - path[0])[::-1] / length
        for _ in range(int(random.integers(1, 7))):
            first, last = np.sort(random.integers(0, len(path), 2))
            paths.append(path[first : last + 1] + across * random.normal(0, apart))
    return _draw(random, paths, width, size)


def fibre(random: np.random.Generator, size: int, area: float) -> Field:
    """A thread or hair that curls."""
    width = _width(random, size) ** 0.7
    length = min(max(area / width, 6), size)
    return _draw(random, [_path(random, length, random.uniform(2, 9), jitter=0.05)], width, size)


def crack(random: np.random.Generator, size: int, area: float) -> Field:
    """A jagged line with up to three branches."""
    width = _width(random, size) ** 0.6
    length = min(max(area / width, 6), size)
    trunk = _path(random, length, turn=1, jitter=0.4)
    paths = [trunk]
    for _ in range(int(random.integers(0, 4))):
        branch = _path(random, length * random.uniform(0.2, 0.5), turn=1, jitter=0.4)
        paths.append(branch - branch[0] + trunk[random.integers(len(trunk))])
    return _draw(random, paths, width, size)


def band(random: np.random.Generator, size: int, area: float) -> Field:
    """A straight band along a side of the picture, from edge to edge or part of the way."""
    length = size * random.uniform(0.4, 2)
    width = min(max(area / size, 0.8), size / 6)
    across = np.abs(np.arange(-int(2 * width) - 2, int(2 * width) + 3, dtype=np.float32))
    soft = log_uniform(random, 0.5, max(1, width))
    profile = np.clip((width / 2 - across) / soft + 0.5, 0, 1)
    if width > 3 and random.random() < 0.4:
        # Many fine lines, as a worn roller leaves them.
        profile = profile * random.random(profile.size, np.float32)
    along = np.clip((length / 2 - np.abs(np.arange(-size, size + 1, dtype=np.float32))) / (soft * 4), 0, 1)
    drawn = np.outer(profile, along).astype(np.float32)
    return drawn if random.random() < 0.5 else np.ascontiguousarray(drawn.T)


def _width(random: np.random.Generator, size: int) -> float:
    return log_uniform(random, 0.8, max(2, size / 32))


def _path(random: np.random.Generator, length: float, turn: float, jitter: float) -> Path:
    """A smooth random path; `turn` and `jitter` are spreads of the heading over all of it and a step, rad."""
    count = max(2, round(length / STEP_PX))
    along = np.linspace(-1, 1, count)
    bend = random.normal(0, turn, 3)
    heading = angle(random) + bend[0] * along + bend[1] * along**2
    heading += 0.3 * bend[2] * np.sin(along * random.uniform(2, 8)) + random.normal(0, jitter, count)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / count)
    return np.cumsum(steps, axis=0)


def _draw(random: np.random.Generator, paths: list[Path], width: float, size: int) -> Field:
    """The strokes, of uneven strength and width, some with gaps, some fainter towards the ends."""
    margin = int(2 * width) + 4
    ends = np.concatenate(paths)
    low = ends.min(axis=0) - margin
    columns, rows = np.minimum(np.ceil(ends.max(axis=0) - low + margin), 2 * size).astype(int)
    drawn = np.zeros((rows, columns), np.uint8)
    uneven = random.uniform(0, 0.5)
    gaps = random.uniform(0, 0.5) if random.random() < 0.4 else 0
    taper = random.uniform(0, 2) if random.random() < 0.4 else 0
    for path in paths:
        points = np.rint((path - low) * 16).astype(np.int32)
        pieces = min(PIECES, max(1, len(points) // 3))
        tones = random.uniform(1 - uneven, 1, pieces) * (random.random(pieces) >= gaps)
        tones *= np.clip(1 - taper * np.abs(np.linspace(-1, 1, pieces)) + taper / 2, 0, 1)
        thick = np.maximum(np.rint(width * random.uniform(1 - uneven, 1 + uneven, pieces)), 1)
        cuts = np.linspace(0, len(points), pieces + 1).astype(int)
        for n in range(pieces):
            # Each piece begins with the last point of the one before.
            part = points[max(cuts[n] - 1, 0) : cuts[n + 1]]
            cv2.polylines(drawn, [part], False, int(255 * tones[n]), int(thick[n]), cv2.LINE_AA, 4)
    # A line of less than a pixel is one of a pixel that is fainter.
    faint = np.float32(min(width, 1) / 255)
    return blurred(drawn.astype(np.float32) * faint, log_uniform(random, 0.35, 0.35 + width / 2))
