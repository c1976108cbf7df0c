"""The shapes of broad defects: each draws how strong the defect is where, float32 (H, W) of 0 to 1."""

import cv2
import numpy as np

from defectline.components.common.synthetic.fields import Field, angle, blurred, log_uniform, smooth_noise

MARGIN_PX = 4
"""Around what is drawn sharp, for a blur of the edge."""


def blob(random: np.random.Generator, size: int, area: float) -> Field:
    """A patch of about `area` px with a noisy outline, long or round; its edge sharp, soft or of specks."""
    inside, thin = _distance_inside(random, size, area)
    shape = _soft(inside, thin, log_uniform(random, 0.5, max(1, thin)))
    if thin > 4 and random.random() < 0.25:
        specks = random.random(shape.shape, np.float32)
        if random.random() < 0.5:
            specks = 0.5 + 0.3 * smooth_noise(random, shape.shape, log_uniform(random, 1.5, thin))
        shape = np.clip((blurred(shape, thin / 6) - np.clip(specks, 0.1, 0.9)) / 0.3, 0, 1)
    return shape.astype(np.float32)


def ring(random: np.random.Generator, size: int, area: float) -> Field:
    """The outline of such a patch, one to many px wide, with or without some of its inside."""
    inside, thin = _distance_inside(random, size, 2 * area)
    line = np.exp(-np.square(inside / log_uniform(random, 0.6, max(0.8, thin / 5))))
    if random.random() < 0.5:
        line = np.maximum(line, random.uniform(0.1, 0.6) * _soft(inside, thin, 1))
    return line.astype(np.float32)


def islands(random: np.random.Generator, size: int, area: float) -> Field:
    """Patches of smooth noise above a height, dense in the middle of about three times the area."""
    inside, thin = _distance_inside(random, size, 3 * area)
    aspect = log_uniform(random, 0.2, 5)
    hills = smooth_noise(random, inside.shape, log_uniform(random, 2, max(3, thin)), 3, aspect)
    soft = log_uniform(random, 0.1, 1)
    return np.clip((hills - random.uniform(0, 1.2)) / soft + 0.5, 0, 1) * _soft(inside, thin, max(1, thin))


def polygon(random: np.random.Generator, size: int, area: float) -> Field:
    """A piece with straight edges and three to seven corners."""
    corners = int(random.integers(3, 8))
    angle = np.sort(random.uniform(0, 2 * np.pi, corners))
    radius = (area / 2) ** 0.5 * random.uniform(0.6, 1.4, corners)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    points[:, int(random.integers(2))] *= log_uniform(random, 0.3, 1)
    points -= points.min(axis=0) - MARGIN_PX
    width, height = np.minimum(np.ceil(points.max(axis=0)) + MARGIN_PX, 2 * size).astype(int)
    drawn = np.zeros((height, width), np.uint8)
    cv2.fillPoly(drawn, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return blurred(drawn * np.float32(1 / 255), log_uniform(random, 0.4, 1.5))


def dots(random: np.random.Generator, size: int, area: float) -> Field:
    """A cluster of small round spots, each of its own strength."""
    count = int(log_uniform(random, 2, 40))
    radius = min(max((area / count / np.pi) ** 0.5, 0.6), size / 20)
    extent = min(radius * count**0.5 * log_uniform(random, 2, 6), size / 3)
    spread = extent * np.array([1, log_uniform(random, 0.2, 1)])
    points = random.normal(0, spread / 2, (count, 2))[:, :: random.choice([-1, 1])]
    points -= points.min(axis=0) - 2 * radius - 2
    width, height = np.minimum(np.ceil(points.max(axis=0) + 2 * radius + 2), 2 * size).astype(int)
    drawn = np.zeros((height, width), np.uint8)
    for (x, y), each, tone in zip(
        points, radius * random.uniform(0.5, 1.5, count), random.uniform(90, 255, count), strict=True
    ):
        centre = round(x * 16), round(y * 16)
        cv2.circle(drawn, centre, max(round(each * 16), 8), int(tone), -1, cv2.LINE_AA, 4)
    return blurred(drawn * np.float32(1 / 255), log_uniform(random, 0.4, max(0.5, radius / 2)))


def _distance_inside(random: np.random.Generator, size: int, area: float) -> tuple[Field, float]:
    """How many px each pixel is inside of a noisy ellipse of about `area` px; and half its width in px."""
    thin = max((area / np.pi / log_uniform(random, 1, 6)) ** 0.5, 0.8)
    long = min(area / np.pi / thin, 0.35 * size)
    rough = random.uniform(0, 0.7)
    grow = 1.3 + rough
    turn = angle(random)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    height = int(grow * np.hypot(long * sin, thin * cos)) + MARGIN_PX
    width = int(grow * np.hypot(long * cos, thin * sin)) + MARGIN_PX
    y = np.arange(-height, height + 1, dtype=np.float32)[:, None]
    x = np.arange(-width, width + 1, dtype=np.float32)
    along, across = (x * cos + y * sin) / np.float32(long), (y * cos - x * sin) / np.float32(thin)
    # cv2.magnitude gives other last bits to arrays that lie elsewhere in memory.
    distance = np.sqrt(along**2 + across**2)
    hills = smooth_noise(random, distance.shape, log_uniform(random, 2, 2 * thin + 2), 3)
    # Outside the hills get flat, so that the box holds the whole defect.
    hills *= np.clip(np.float32(grow) - distance, 0, 1) * np.float32(rough / 2)
    return (1 - distance + hills) * np.float32(thin), thin


def _soft(inside: Field, thin: float, width: float) -> Field:
    """From 0 to 1 over `width` px of the edge, not further out than the box reaches."""
    out = min(width / 2, 0.2 * thin + 1)
    return np.clip((inside + np.float32(out)) / np.float32(width), 0, 1)
